"""Clients that keep the server waiting, by raw sockets: they are answered or cut off, and keep nobody else out."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from live_server import LiveServer
from model_server import ModelServer

APPEND = (
    b"POST /v1beta/datasetio/append-rows/d HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def connect(server: LiveServer) -> socket.socket:
    url = httpx.URL(server.url)
    connection = socket.create_connection((url.host, url.port), 20)
    connection.settimeout(20)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes; a reset counts as its end."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def error_of(answer: bytes) -> dict[str, object]:
    """The `Error` in a raw answer, which must be the contract's."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert "content-type: application/json" in lines
    assert "connection: close" in lines
    error: dict[str, object] = json.loads(body)
    assert int(head.split()[1]) == error["status"]
    assert f"x-request-id: {error['instance']}" in lines
    return error


def register(server: LiveServer, num_rows: int = 1, row: str = "r") -> None:
    rows = [{"question": row, "answer": "a"}] * num_rows
    body = {"dataset_id": "d", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": rows}}
    server.call("POST", "/v1beta/datasets", body)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def crowd(server: LiveServer, num: int, opening: bytes) -> Iterator[list[socket.socket]]:
    """`num` connections that send `opening` and no more. Those the server has closed meanwhile stay in the list."""
    with ExitStack() as stack:
        connections = []
        for _ in range(num):
            connection = stack.enter_context(connect(server))
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(opening)
            connections.append(connection)
        yield connections


def num_closed(connections: list[socket.socket]) -> int:
    """How many of them the server has closed or reset."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        return len(selector.select(timeout=0))


def test_a_head_that_does_not_end_is_408_and_closed(tmp_path: Path) -> None:
    with LiveServer(tmp_path, header_timeout_seconds=0.5) as server:
        with connect(server) as silent, connect(server) as half, connect(server) as dribble:
            half.sendall(b"GET /v1/health HTTP/1.1\r\nHost: lo")
            dribble.sendall(b"\r\n")  # before a request, empty lines are allowed; they start the clock all the same
            for _ in range(30):
                time.sleep(0.2)
                try:
                    dribble.sendall(b"\r\n")
                except OSError:
                    break
            else:
                pytest.fail("empty lines keep a connection open for ever")
            error = error_of(read_to_end(half))
            assert error["status"] == 408
            assert "header_timeout_seconds" in str(error["detail"])
            assert read_to_end(silent) == b""
        assert server.call("GET", "/v1/health") == {"status": "OK"}


def test_half_a_body_then_silence_is_408_and_stores_nothing(tmp_path: Path) -> None:
    with LiveServer(tmp_path, body_timeout_seconds=0.5) as server:
        register(server)
        with connect(server) as connection:
            connection.sendall(APPEND % 1000 + b'{"rows":[{"question":"q","ans')
            error = error_of(read_to_end(connection))
        assert error["status"] == 408
        assert "body_timeout_seconds" in str(error["detail"])
        assert error["instance"] in server.log
        assert server.call("GET", "/v1beta/datasets/d")["metadata"]["num_rows"] == 1


def test_a_client_that_leaves_in_its_body_is_no_bug(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        register(server)
        with connect(server) as connection:
            connection.sendall(APPEND % 1000 + b'{"rows":[')
        wait_until(lambda: "append-rows/d 499" in server.log)
        assert "Traceback" not in server.log


def test_a_body_that_is_too_large_is_answered_before_it_is_sent(tmp_path: Path) -> None:
    with LiveServer(tmp_path, max_body_bytes=1_000_000) as server:
        register(server)
        with connect(server) as declared:
            declared.sendall(APPEND % 50_000_000)
            assert error_of(read_to_end(declared))["status"] == 413
        with connect(server) as chunked:
            chunked.sendall(APPEND.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked"))
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            with pytest.raises((ConnectionResetError, BrokenPipeError)):  # it does not go on taking it
                for _ in range(4000):
                    chunked.sendall(piece)
            assert error_of(read_to_end(chunked))["status"] == 413
        # A client that sends all it has before it looks, as most do, reads why as well.
        response = server.http.post(
            "/v1beta/datasetio/append-rows/d", content=b"x" * 3_000_000, headers={"content-type": "application/json"}
        )
        assert (response.status_code, response.headers["connection"]) == (413, "close")


def test_a_request_that_follows_a_refused_one_has_its_time(tmp_path: Path) -> None:
    """However the pieces arrive: no clock of the first request runs on into the second."""
    model = {"model_id": "far", "provider_id": "lab", "provider_model_id": "m", "model_type": "llm"}
    refused = (APPEND % 10).replace(b"application/json", b"text/plain") + b"0123456789"
    body = b'{"model":"far","messages":[{"role":"user","content":"1+1"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    asked = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with ModelServer(lambda _: "2", delay_seconds=4) as models:
        provider = {"provider_id": "lab", "provider_type": "remote::openai", "config": {"base_url": models.base_url}}
        with LiveServer(
            tmp_path, keep_alive_seconds=1, providers=[provider], registered_resources={"models": [model]}
        ) as server:
            for pieces in ([refused + asked], [refused[:-5], refused[-5:] + asked], [refused + asked[:20], asked[20:]]):
                with connect(server) as connection:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.3)
                    answer = read_to_end(connection)
                assert answer.count(b"HTTP/1.1 400 ") == 1, pieces
                assert answer.count(b"HTTP/1.1 200 ") == 1, pieces


def test_a_client_that_asks_before_it_sends_is_answered_before_it_sends(tmp_path: Path) -> None:
    with LiveServer(tmp_path, max_body_bytes=1_000_000) as server:
        register(server)
        expect = b"Expect: 100-continue\r\nContent-Length: %d"
        with connect(server) as connection:
            connection.sendall(APPEND.replace(b"Content-Length: %d", expect % 2_000_000))
            assert error_of(read_to_end(connection))["status"] == 413
        with connect(server) as connection:
            body = b'{"rows":[{"question":"q","answer":"a"}]}'
            connection.sendall(APPEND.replace(b"Content-Length: %d", expect % len(body)))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_an_upgrade_is_answered_as_the_plain_request_that_it_also_is(shared_server: LiveServer) -> None:
    upgrade = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    )
    for host, status in ((b"localhost", b"404"), (b"evil.example", b"403")):
        with connect(shared_server) as connection:
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: " + host + b"\r\n" + upgrade + b"\r\n")
            assert read_to_end(connection).startswith(b"HTTP/1.1 " + status)
    assert "Unsupported" not in shared_server.log


def test_a_small_body_that_is_refused_unread_leaves_the_connection_open(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        with connect(server) as connection:
            wrong = (APPEND % 10).replace(b"application/json", b"text/plain") + b"0123456789"
            connection.sendall(wrong + b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = read_to_end(connection)
        assert answer.count(b"HTTP/1.1 400 ") == 1
        assert answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"HELP\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 40_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (APPEND.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (APPEND.replace(b"Content-Length: %d", b"Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (APPEND.replace(b"%d", b"5\r\nContent-Length: 6") + b"12345", 400),
        (APPEND.replace(b"%d", b"-5"), 400),
    ],
)
def test_what_is_no_request_is_answered_in_the_one_shape(
    shared_server: LiveServer, request_bytes: bytes, status: int
) -> None:
    with connect(shared_server) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):  # it may be refused before all of it was sent
            connection.sendall(request_bytes)
        assert error_of(read_to_end(connection))["status"] == status


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as server:
        yield server
        assert "Traceback" not in server.log
        assert server.log.count("Invalid") == 0  # what clients send writes no lines of its own


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"GET /v1/health HTTP/1.1\r\nHost: lo",
        APPEND % 1000 + b'{"rows":[',
        b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["silent", "half a head", "half a body", "idle"],
)
def test_a_thousand_slow_connections_keep_nobody_out(tmp_path: Path, opening: bytes) -> None:
    with LiveServer(tmp_path, max_connections=300, header_timeout_seconds=60, keep_alive_seconds=60) as server:
        register(server)
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        with crowd(server, 1200, opening) as connections:
            # Others come in, however many wait, and do what costs something too: those slow ones hold no place.
            for _ in range(20):
                with httpx.Client(base_url=server.url, timeout=20) as other:
                    assert other.get("/v1/health").json() == {"status": "OK"}
                    assert len(other.get("/v1beta/datasetio/iterrows/d").json()["data"]) == 1
            assert num_closed(connections) >= 900  # those that waited longest made room
            assert process.num_fds() < 300 + 100
            assert process.memory_info().rss - before < 60e6
        assert "Traceback" not in server.log


def test_the_limit_of_open_files_bounds_the_connections(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (220, 220))

    server = LiveServer(tmp_path)
    try:
        server.start(before_exec=limited)
        assert "allows fewer connections" in server.log
        with crowd(server, 800, b"") as connections:
            for _ in range(10):
                with httpx.Client(base_url=server.url, timeout=20) as other:
                    assert other.get("/v1beta/datasets").json() == {"data": []}
            assert num_closed(connections) >= 700
        assert len(server.log.splitlines()) < 100
        assert server.stop() == 0
    finally:
        server.__exit__()


def test_a_client_that_takes_none_of_its_answer_is_cut_off_and_holds_no_connection(tmp_path: Path) -> None:
    with LiveServer(tmp_path, write_timeout_seconds=4, max_requests_in_flight=20) as server:
        register(server, num_rows=30, row="r" * 1_000_000)
        readers = [connect(server) for _ in range(20)]  # more than the database has connections
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(b"GET /v1beta/datasetio/iterrows/d HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # They stand still, hold no place, and the database still answers and is written to.
        time.sleep(0.2)
        wait_until(lambda: "paddock_requests_in_flight 0.0" in server.http.get("/metrics").text, 60)
        assert "iterrows/d" not in server.log  # a line is written when an answer ends
        server.call("POST", "/v1beta/datasetio/append-rows/d", {"rows": [{"question": "q", "answer": "a"}]})
        assert server.call("GET", "/v1beta/datasets/d")["metadata"]["num_rows"] == 31
        process = psutil.Process(server.pid)
        port = httpx.URL(server.url).port
        wait_until(
            lambda: (
                not [
                    c
                    for c in process.net_connections("tcp")
                    if c.laddr.port == port
                    and c.raddr
                    and c.status == "ESTABLISHED"
                    and c.raddr.port in {reader.getsockname()[1] for reader in readers}
                ]
            )
        )
        for reader in readers:
            answer = read_to_end(reader)
            assert not answer.endswith(b"0\r\n\r\n")  # broken off, and to be seen as such
            reader.close()
        assert server.call("GET", "/v1/health") == {"status": "OK"}


def test_an_answer_that_is_small_and_never_taken_is_dropped_too(tmp_path: Path) -> None:
    """It was handed over whole, so that only the connection knows that it never left."""
    with LiveServer(tmp_path, write_timeout_seconds=1, keep_alive_seconds=1) as server:
        register(server, num_rows=1, row="r" * 8_000_000)
        with connect(server) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(b"GET /v1beta/datasetio/iterrows/d HTTP/1.1\r\nHost: localhost\r\n\r\n")
            port = reader.getsockname()[1]
            process = psutil.Process(server.pid)
            wait_until(lambda: "iterrows/d 200" in server.log)
            wait_until(lambda: port not in {c.raddr.port for c in process.net_connections("tcp") if c.raddr})

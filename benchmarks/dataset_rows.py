"""How fast datasets take rows in and give them out over HTTP, beside the bare database in the same run.

The floor is Python's `sqlite3` on a table of the same shape with the same durability settings, without HTTP, JSON or
indices of its own; `ratio` is ours over the floor's. One process asks, the server answers from another.

    python benchmarks/dataset_rows.py [--sizes 10000,1000000] [--seconds 3] [--parts append,page,stream,ingest]

(Not `datasets.py`: tests have this folder on their path, and would find it in place of Hugging Face's library.)
10 M rows: `--sizes 10000,1000000,10000000` (some 2 GB of disk, some minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import selectors
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

ROW = '{"question":"What is 17 + 25? Answer with the number alone.","answer":"42","weight":1.10}'
BULK_ROWS = 1000
PAGE_ROWS = 100
_STARTED = re.compile(r"Paddock serves http://[^:]+:(\d+) from")


class Load(NamedTuple):
    """What clients that ask one request after the other have seen."""

    num_answers: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.num_answers / self.seconds

    def quantile(self, q: float) -> float:
        """Milliseconds."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(q * len(self.latencies)))] * 1000


class Server:
    """A `paddock serve` of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "server.log"
        config = folder / "paddock.yaml"
        config.write_text(json.dumps({"dataset_roots": [str(folder)]}))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "paddock", "serve", "--port", "0"),
                    *("--config", str(config), "--data-dir", str(folder / "data")),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while (found := _STARTED.search(self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.port = int(found.group(1))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=600)

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(60)

    def resident(self) -> float:
        """Megabytes of the server and its children."""
        process = psutil.Process(self.process.pid)
        total = 0
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6

    def cpu_seconds(self) -> float:
        """Processor time that the server has used; on a busy machine it tells more than the clock."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def register(self, dataset_id: str, source: dict[str, Any]) -> dict[str, Any]:
        body = {"dataset_id": dataset_id, "purpose": "eval/question-answer", "source": source}
        response = self.http.post("/v1beta/datasets", json=body)
        assert response.status_code == 200, response.text
        metadata: dict[str, Any] = response.json()["metadata"]
        return metadata

    def metadata(self, dataset_id: str) -> dict[str, Any]:
        metadata: dict[str, Any] = self.http.get(f"/v1beta/datasets/{dataset_id}").json()["metadata"]
        return metadata


def ask(
    port: int,
    request: Callable[[int], bytes],
    num_clients: int,
    *,
    seconds: float = 0,
    count: int = 0,
    every: float = 0,
) -> Load:
    """Let `num_clients` connections each send `request(n)` and wait for its answer, one after the other, for `seconds` or
    `count` answers in all; gently, one request each `every` seconds a client, where that is given."""
    selector = selectors.DefaultSelector()
    latencies: list[float] = []
    number = 0
    begun = time.perf_counter()
    waiting: list[tuple[float, selectors.SelectorKey]] = []
    for client in range(num_clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = selector.register(connection, selectors.EVENT_READ, [b"", 0.0])
        # Gentle clients are not in step.
        waiting.append((begun + client * every / num_clients, key))
    open_clients = num_clients
    while open_clients:
        timeout = 30.0 if not waiting else max(0.0, waiting[0][0] - time.perf_counter())
        ready = [key for key, _ in selector.select(timeout)]
        assert ready or waiting, "no answer within 30 s"
        for key in ready:
            assert isinstance(key.fileobj, socket.socket)
            key.data[0] += key.fileobj.recv(1 << 20)
            if not _is_whole(key.data[0]):
                continue
            assert key.data[0].startswith(b"HTTP/1.1 200"), key.data[0][:500]
            now = time.perf_counter()
            latencies.append(now - key.data[1])
            if (seconds and now - begun >= seconds) or (count and number >= count):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                open_clients -= 1
            elif every:
                waiting.append((key.data[1] + every, key))
                waiting.sort(key=lambda pair: pair[0])
            else:
                number = _send(key, request, number)
        while waiting and waiting[0][0] <= time.perf_counter():
            number = _send(waiting.pop(0)[1], request, number)
    return Load(len(latencies), time.perf_counter() - begun, latencies)


def _send(key: selectors.SelectorKey, request: Callable[[int], bytes], number: int) -> int:
    assert isinstance(key.fileobj, socket.socket)
    key.data[0] = b""
    key.data[1] = time.perf_counter()
    key.fileobj.sendall(request(number))
    return number + 1


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return len(body) >= int(found.group(1)) if found else body.endswith(b"0\r\n\r\n")


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def bare(file: Path) -> sqlite3.Connection:
    """The floor's database: the table of rows with the durability settings of `storage.database`."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-8192"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS rows (generation INTEGER NOT NULL, row_index BIGINT NOT NULL, row_json TEXT NOT NULL,"
        " PRIMARY KEY (generation, row_index))"
    )
    return connection


class Floor(NamedTuple):
    """Durable commits a second, and the processor time of each in microseconds."""

    rate: float
    cpu: float


def floor_append(file: Path, num_rows: int, seconds: float) -> Floor:
    """Durable commits, each of `num_rows` rows."""
    connection = bare(file)
    start = int(connection.execute("SELECT coalesce(max(row_index) + 1, 0) FROM rows").fetchone()[0])
    num_commits = 0
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        rows = [(1, index, ROW) for index in range(start, start + num_rows)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        start += num_rows
        num_commits += 1
    floor = Floor(num_commits / (time.perf_counter() - begun), (time.process_time() - used) / num_commits * 1e6)
    connection.close()
    return floor


def measure_appends(server: Server, folder: Path, seconds: float) -> None:
    print(
        f"\nappend{'':<21}{'ours':>10}{'floor':>10}{'ratio':>7}{'p50 ms':>8}{'p99 ms':>8}{'CPU of a call':>17}{'floor':>9}"
    )
    for num_rows, unit in ((1, "calls/s"), (BULK_ROWS, "rows/s")):
        body = ('{"rows":[' + ",".join([ROW] * num_rows) + "]}").encode()
        server.register(f"append-{num_rows}", {"type": "rows", "rows": []})
        request = post(f"/v1beta/datasetio/append-rows/append-{num_rows}", body)
        for num_clients in (1, 16):
            floors = [floor_append(folder / "floor.db", num_rows, seconds / 2)]
            before = server.metadata(f"append-{num_rows}")["num_rows"]
            used = server.cpu_seconds()
            load = ask(server.port, lambda _: request, num_clients, seconds=seconds)  # noqa: B023
            cpu = (server.cpu_seconds() - used) / load.num_answers * 1e6
            assert server.metadata(f"append-{num_rows}")["num_rows"] - before == load.num_answers * num_rows
            floors.append(floor_append(folder / "floor.db", num_rows, seconds / 2))
            floor = statistics.mean(floor.rate for floor in floors)
            floor_cpu = statistics.mean(floor.cpu for floor in floors)
            print(
                f"{num_rows:>5} a call, {num_clients:>2} clients  {load.rate * num_rows:>10,.0f}{floor * num_rows:>10,.0f}"
                f"{load.rate / floor:>7.2f}{load.quantile(0.5):>8.2f}{load.quantile(0.99):>8.1f}{cpu:>14,.0f} µs"
                f"{floor_cpu:>6,.0f} µs  {unit}"
            )


def measure_syncs(server: Server, folder: Path) -> None:
    """How often the kernel is told to bring the database to the disk, for each append that is answered."""
    if shutil.which("strace") is None:
        print("\nsyncs are not counted: there is no strace here")
        return
    print()
    server.register("synced", {"type": "rows", "rows": []})
    request = post("/v1beta/datasetio/append-rows/synced", ('{"rows":[' + ROW + "]}").encode())
    for num_clients in (1, 16):
        trace = folder / "syncs"
        strace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace), "-p", str(server.process.pid)]
        with subprocess.Popen(strace, stderr=subprocess.DEVNULL) as tracer:
            time.sleep(1)
            load = ask(server.port, lambda _: request, num_clients, count=300)
            tracer.send_signal(signal.SIGINT)
        num_syncs = len(re.findall(r"f(?:data)?sync\(", trace.read_text()))
        print(f"{num_syncs:,} syncs for {load.num_answers:,} single appends of {num_clients} clients")
        assert num_clients > 1 or num_syncs >= load.num_answers, "an append was answered before it was on the disk"


def floor_page(file: Path, start: int) -> float:
    connection = bare(file)
    query = "SELECT row_json FROM rows WHERE generation = 1 AND row_index >= ? AND row_index < ? ORDER BY row_index"
    times = []
    for _ in range(300):
        begun = time.perf_counter()
        connection.execute(query, (start, start + PAGE_ROWS)).fetchall()
        times.append(time.perf_counter() - begun)
    connection.close()
    return statistics.median(times) * 1000


def measure_pages(server: Server, folder: Path, sizes: list[int]) -> None:
    print(f"\npage of {PAGE_ROWS:<16}{'1 client':>10}{'floor':>8}{'16 gently, p50':>16}{'p99 ms':>9}{'flat out':>12}")
    for size in sizes:
        file = folder / f"floor-{size}.db"
        connection = bare(file)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO rows VALUES (1, ?, ?)", ((index, ROW) for index in range(size)))
        connection.execute("COMMIT")
        connection.close()
        places = {"start": 0, "middle": size // 2, "end": size - PAGE_ROWS}
        path = f"/v1beta/datasetio/iterrows/rows-{size}?limit={PAGE_ROWS}&start_index="
        requests = [get(f"{path}{start}") for start in places.values()]
        # In turn, so that what else the machine does is spread over all three.
        in_turn = ask(server.port, lambda number: requests[number % 3], 1, count=1500)  # noqa: B023
        for number, (name, start) in enumerate(places.items()):
            request = requests[number]
            one = Load(500, 1, in_turn.latencies[number::3])
            gently = ask(server.port, lambda _: request, 16, seconds=3, every=0.1)  # noqa: B023
            flat_out = ask(server.port, lambda _: request, 16, seconds=2)  # noqa: B023
            print(
                f"{size:>12,} {name:<11}{one.quantile(0.5):>7.2f} ms{floor_page(file, start):>8.2f}"
                f"{gently.quantile(0.5):>16.2f}{gently.quantile(0.99):>9.2f}{flat_out.rate:>8,.0f} pages/s"
            )
        file.unlink()


@contextmanager
def peak_of(server: Server) -> Iterator[list[float]]:
    """The server's and its children's highest resident megabytes while the block runs, above what they were before."""
    before = server.resident()
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], server.resident() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def measure_stream(server: Server, sizes: list[int]) -> None:
    print(f"\nwhole dataset as a stream{'rows/s':>12}{'first byte':>14}{'growth':>12}")
    for size in sizes:
        with peak_of(server) as peak:
            begun = time.perf_counter()
            first = None
            num_bytes = 0
            with server.http.stream("GET", f"/v1beta/datasetio/iterrows/rows-{size}", params={"limit": -1}) as answer:
                for chunk in answer.iter_raw():
                    first = time.perf_counter() - begun if first is None else first
                    num_bytes += len(chunk)
            seconds = time.perf_counter() - begun
        assert num_bytes > size * len(ROW)
        assert first is not None
        print(f"{size:>14,} rows     {size / seconds:>12,.0f}{first * 1000:>11.0f} ms{peak[0]:>9.0f} MB")


def ingest(server: Server, folder: Path, size: int) -> float:
    """Register `size` rows of JSON lines from disk, and wait until they are there. Returns the seconds."""
    file = folder / f"rows-{size}.jsonl"
    with file.open("w") as lines:
        for _ in range(size // 1000):
            lines.write((ROW + "\n") * 1000)
    begun = time.perf_counter()
    server.register(f"rows-{size}", {"type": "uri", "uri": file.as_uri()})
    while (metadata := server.metadata(f"rows-{size}")).get("state", "ready") == "reading":
        assert time.perf_counter() - begun < 3600
        time.sleep(0.1)
    assert (metadata.get("state", "ready"), metadata["num_rows"]) == ("ready", size), metadata
    file.unlink()
    return time.perf_counter() - begun


def measure_ingests(server: Server, folder: Path, sizes: list[int]) -> None:
    print(f"\nregister from a file of JSON lines{'ready':>8}{'rows/s':>12}{'growth of server and job':>28}")
    for size in sizes:
        with peak_of(server) as peak:
            seconds = ingest(server, folder, size)
        print(f"{size:>24,} rows    {seconds:>8.1f} s{size / seconds:>12,.0f}{peak[0]:>25.0f} MB")


def measure_appends_beside(server: Server, folder: Path) -> None:
    """Single appends while a million rows are read in."""
    server.register("beside", {"type": "rows", "rows": []})
    request = post("/v1beta/datasetio/append-rows/beside", ('{"rows":[' + ROW + "]}").encode())
    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(ingest(server, folder, 1_001_000)))
    thread.start()
    loads = []
    while thread.is_alive():
        loads.append(ask(server.port, lambda _: request, 4, seconds=1, every=0.02))
    thread.join()
    latencies = [latency for load in loads for latency in load.latencies]
    load = Load(len(latencies), 1, latencies)
    print(
        f"\nsingle appends beside an ingest of 1 M rows ({seconds[0]:.1f} s): {load.num_answers:,} appends, "
        f"p50 {load.quantile(0.5):.1f} ms, p99 {load.quantile(0.99):.1f} ms, longest {load.quantile(1):.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--sizes", default="10000,1000000")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--parts", default="append,ingest,page,stream,beside")
    parser.add_argument("--folder", type=Path, help="where the databases lie; a temporary folder by default")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    parts = arguments.parts.split(",")
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, load average {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name).resolve()
        server = Server(folder)
        try:
            if "append" in parts:
                measure_appends(server, folder, arguments.seconds)
                measure_syncs(server, folder)
            if set(parts) & {"ingest", "page", "stream"}:
                measure_ingests(server, folder, sizes)
            if "page" in parts:
                measure_pages(server, folder, sizes)
            if "stream" in parts:
                measure_stream(server, sizes)
            if "beside" in parts:
                measure_appends_beside(server, folder)
        finally:
            server.stop()


if __name__ == "__main__":
    main()

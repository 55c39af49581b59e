"""The client against a stand-in of a server: what it sends, what it makes of answers, what it repeats."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from app_server import AppServer
from paddock import client as client_module
from paddock.client import Client, ClientError, chunks
from paddock.errors import FieldError

Recorded = list[tuple[str, str, bytes, dict[str, str]]]


def a_job(status: str, **more: Any) -> dict[str, Any]:
    return {"job_id": "j", "status": status, "attempt": 1, "progress": None, "error": None} | more


class StandIn:
    """Answers what it was told to, in order and then the last one again, and records each request."""

    def __init__(self) -> None:
        self.requests: Recorded = []
        self._answers: dict[str, Iterator[Response]] = {}
        self.app = FastAPI()
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "DELETE"])

    def on(self, path: str, *answers: Any) -> None:
        responses = [
            a if isinstance(a, Response) else Response(json.dumps(a), media_type="application/json") for a in answers
        ]
        self._answers[path] = itertools.chain(responses[:-1], itertools.repeat(responses[-1]))

    async def _answer(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"].decode()
        query = request.url.query
        self.requests.append(
            (request.method, raw_path + (f"?{query}" if query else ""), await request.body(), dict(request.headers))
        )
        return next(self._answers[raw_path])


@pytest.fixture(autouse=True)
def contract_violations() -> None:
    """Over the one of all tests: what answers here is told what to say, wrong things too."""


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def client(stand_in: StandIn) -> Iterator[Client]:
    with AppServer(stand_in.app) as server, Client(server.url + "/") as client:
        yield client


def error_of(call: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value


def test_query_parameters_that_are_none_are_left_out(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1/models", {"data": []})
    assert client.get("/v1/models", kind=None, limit=3) == {"data": []}
    assert stand_in.requests[0][:2] == ("GET", "/v1/models?limit=3")


def test_the_servers_error_becomes_an_exception(stand_in: StandIn, client: Client) -> None:
    body = {"status": 400, "title": "Bad Request", "detail": "no such dataset", "instance": "req-1"}
    errors = {"errors": [{"pointer": "/dataset_id", "message": "no such dataset"}]}
    stand_in.on("/x", Response(json.dumps(body | errors), status_code=400))
    error = error_of(lambda: client.post("/x", {}))
    assert (error.status, error.detail) == (400, "no such dataset")
    assert error.errors == (FieldError("/dataset_id", "no such dataset"),)


@pytest.mark.parametrize("content", [b"<html>bad gateway</html>", b"[]", b'{"error": "no"}', b""])
def test_an_answer_of_something_else_says_so(stand_in: StandIn, client: Client, content: bytes) -> None:
    stand_in.on("/x", Response(content, status_code=502))
    error = error_of(lambda: client.get("/x"))
    assert error.status == 502
    assert "not as a Paddock server does" in error.detail


def test_no_server_is_one_sentence_that_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(url) as client:
        error = error_of(lambda: client.get("/v1/health"))
    assert error.status is None
    assert error.detail == (
        f"No server answers at {url}. Start one with `paddock serve`, or name another with --url or PADDOCK_URL."
    )


@pytest.mark.parametrize("url", ["localhost:8321", "ftp://localhost", "http://host:port", "nonsense"])
def test_an_address_that_is_none(url: str) -> None:
    with Client(url) as client:
        assert "is not the address of a server" in error_of(lambda: client.get("/v1/health")).detail


def test_a_success_that_is_not_json(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/x", Response(b"hello"))
    assert "not JSON" in error_of(lambda: client.get("/x")).detail


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.on("/x", 1)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with AppServer(stand_in.app) as server, Client(server.url) as client:
        assert client.get("/x") == 1


def test_ids_with_slashes_and_signs_arrive(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1alpha/eval/benchmarks/meta%2Fmm%20lu%3F/jobs", {"job_id": "j", "status": "scheduled"})
    assert client.run_eval("meta/mm lu?", {"eval_candidate": {}}) == "j"


def test_what_may_not_happen_twice_carries_a_key(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1beta/datasetio/append-rows/d", None)
    stand_in.on("/v1alpha/eval/benchmarks/b/jobs", {"job_id": "j"})
    stand_in.on("/v1alpha/eval/benchmarks/b/evaluations", {"generations": [], "scores": {}})
    list(client.append_rows("d", [b"{}"] * 1001))
    client.run_eval("b", {})
    client.run_eval("b", {})
    client.evaluate_rows("b", [b'{"x":1.10}'], ["basic::equality"], {"eval_candidate": {}})
    keys = [headers["idempotency-key"] for *_, headers in stand_in.requests]
    assert len(set(keys)) == len(keys) == 5


def test_rows_are_sent_as_they_are_written(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1beta/datasetio/append-rows/d", None)
    stand_in.on("/v1alpha/eval/benchmarks/b/evaluations", {})
    rows = [b'{"a":1.10,"b":1e400}', b'{"a":-0.0}']
    assert list(client.append_rows("d", rows)) == [2]
    client.evaluate_rows("b", rows, ["f"], {"k": 1})
    joined = b'[{"a":1.10,"b":1e400},{"a":-0.0}]'
    assert stand_in.requests[0][2] == b'{"rows":' + joined + b"}"
    assert stand_in.requests[1][2].startswith(b'{"input_rows":' + joined + b',"scoring_functions": ["f"]')


def test_rows_are_read_page_by_page_as_they_are_stored(stand_in: StandIn, client: Client) -> None:
    path = "/v1beta/datasetio/iterrows/my%2Fd"
    first = b'{"data":[{"a":1.10},{"b":1e400}],"has_more":true,"url":"/next?start_index=2&limit=1000"}'
    stand_in.on(path, Response(first))
    stand_in.on("/next", {"data": [{"c": 1}], "has_more": False, "url": None})
    assert list(client.rows("my/d")) == [b'{"a":1.10}', b'{"b":1e400}', b'{"c": 1}']
    assert stand_in.requests[0][1] == f"{path}?start_index=0&limit=1000"
    assert stand_in.requests[1][1] == "/next?start_index=2&limit=1000"


def test_a_limit_of_rows_is_kept_across_pages(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1beta/datasetio/iterrows/d", {"data": [{"i": 0}] * 1000, "has_more": True, "url": "/next"})
    stand_in.on("/next", {"data": [{"i": 1}] * 1000, "has_more": True, "url": "/never"})
    assert len(list(client.rows("d", start=7, limit=1500))) == 1500
    assert list(client.rows("d", limit=0)) == []
    assert [path for _, path, *_ in stand_in.requests] == [
        "/v1beta/datasetio/iterrows/d?start_index=7&limit=1000",
        "/next",
    ]


def test_chunks_bound_rows_and_bytes() -> None:
    assert [len(chunk) for chunk in chunks([b"{}"] * 2500)] == [1000, 1000, 500]
    large = b"x" * (5 * 1024 * 1024)
    assert [len(chunk) for chunk in chunks([large, large, b"{}", large * 2, b"{}"])] == [1, 2, 1, 1]
    assert list(chunks([])) == []


def test_jobs_are_listed_over_pages(stand_in: StandIn, client: Client) -> None:
    pages = [
        {"data": [{"job_id": str(i)} for i in range(100)], "next_before": 17},
        {"data": [{"job_id": "100"}], "next_before": None},
    ]
    stand_in.on("/v1alpha/jobs", *pages)
    assert len(list(client.jobs(kind="sft"))) == 101
    assert [path for _, path, *_ in stand_in.requests] == [
        "/v1alpha/jobs?kind=sft&limit=100",
        "/v1alpha/jobs?kind=sft&before=17&limit=100",
    ]


def test_following_gives_each_point_once_and_ends_with_the_job(
    stand_in: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.0)
    stand_in.on("/v1alpha/jobs/j", a_job("scheduled"), a_job("in_progress"), a_job("completed"))
    stand_in.on("/v1alpha/jobs/j/metrics", {"data": []}, {"data": [{"step": 1}, {"step": 2}]}, {"data": [{"step": 3}]})
    updates = list(client.follow("j"))
    assert [update.job["status"] for update in updates] == ["scheduled", "in_progress", "completed"]
    assert [point["step"] for update in updates for point in update.points] == [1, 2, 3]
    afters = [path.partition("?")[2] for _, path, *_ in stand_in.requests if "metrics" in path]
    assert afters == ["after=-1", "after=-1", "after=2"]


def test_following_waits_for_a_server_that_is_restarted(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.0)
    stand_in.on("/v1alpha/jobs/j", a_job("in_progress"), a_job("completed"))
    stand_in.on("/v1alpha/jobs/j/metrics", {"data": []})
    with Client() as client:
        with AppServer(stand_in.app) as server:
            client.url = server.url
            updates = client.follow("j")
            assert next(updates).job["status"] == "in_progress"
        monkeypatch.setattr(client_module, "_PATIENCE_SECONDS", 0.0)
        assert "No server answers" in error_of(lambda: next(updates)).detail
        monkeypatch.setattr(client_module, "_PATIENCE_SECONDS", 20.0)
        with AppServer(stand_in.app) as server:
            client.url = server.url
            assert next(client.follow("j")).job["status"] == "completed"


def test_an_unknown_job_is_not_waited_for(stand_in: StandIn, client: Client) -> None:
    stand_in.on("/v1alpha/jobs/j", Response('{"status": 404, "title": "Not Found", "detail": "no"}', status_code=404))
    assert error_of(lambda: next(client.follow("j"))).status == 404
    assert len(stand_in.requests) == 1


def test_a_log_is_followed_into_the_next_attempt(
    stand_in: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.0)
    stand_in.on("/v1alpha/jobs/j", a_job("in_progress"), a_job("completed", attempt=2))
    stand_in.on("/v1alpha/jobs/j/logs", *(Response(text) for text in ("one\n", "", "two\n", "three\n", "")))
    assert b"".join(client.log("j", follow=True)) == b"one\ntwo\nthree\n"
    queries = [path.partition("?")[2] for _, path, *_ in stand_in.requests if "logs" in path]
    assert queries == [
        "attempt=1&offset=0", "attempt=1&offset=4", "attempt=2&offset=0", "attempt=2&offset=4", "attempt=2&offset=10",
    ]  # fmt: skip


def test_an_answer_comes_in_pieces_and_an_end_that_is_none_is_told(stand_in: StandIn, client: Client) -> None:
    delta = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    whole = f"data: {delta}\n\n: a comment\n\ndata: {delta}\n\n"
    done, broken = (Response(whole + end, media_type="text/event-stream") for end in ("data: [DONE]\n\n", ""))
    stand_in.on("/v1/chat/completions", done, broken)
    assert list(client.chat({"model": "m"})) == ["a", "a"]
    assert json.loads(stand_in.requests[0][2]) == {"model": "m", "stream": True}
    pieces = client.chat({"model": "m"})
    assert next(pieces) == "a"
    assert "before its end" in error_of(lambda: list(pieces)).detail

"""The hook that holds every answer to the contract is itself held to finding what is wrong."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from app_server import AppServer
from contract import watch

GOOD = b'{"data": [{"a": 1e400}], "has_more": false, "url": null}'
ITERROWS = "/v1beta/datasetio/iterrows/team/exam"
STATUS = "/v1alpha/post-training/job/status"


@pytest.mark.parametrize(
    ("path", "status", "content_type", "body", "problem"),
    [
        (ITERROWS, 200, "application/json", GOOD, None),
        (ITERROWS, 200, "application/json", GOOD[:-1], "no JSON"),
        (ITERROWS, 200, "application/json", GOOD.replace(b"false", b"0"), "$.has_more"),
        (ITERROWS, 200, "application/json", GOOD.replace(b'{"a": 1e400}', b"3"), "$.data[0]"),
        (ITERROWS, 200, "application/json", GOOD.replace(b"1e400", b"NaN"), "NaN is not JSON"),
        (ITERROWS, 200, "text/plain", GOOD, "content type"),
        (ITERROWS, 200, None, GOOD, "content type"),
        (ITERROWS, 201, "application/json", GOOD, "the status 201"),
        (ITERROWS, 404, "application/json", b'{"status":404,"title":"Not Found","detail":"none"}', None),
        (ITERROWS, 404, "application/json", b'{"status":400,"title":"Not Found","detail":"none"}', "the body says 400"),
        (ITERROWS, 404, "application/json", b'{"detail":"none"}', "'status' is a required property"),
        (ITERROWS, 404, "text/plain", b"Not Found", "content type"),
        ("/v1/no/contract", 500, "application/json", b'{"message":"x"}', "'status' is a required property"),
        ("/v1/no/contract", 200, "text/html", b"<html>", None),
        (
            ITERROWS,
            400,
            "application/json",
            b'{"status":400,"title":"Bad Request","detail":"x","errors":[{"pointer":1,"message":"x"}]}',
            "$.errors[0].pointer",
        ),
        (
            "/v1alpha/eval/benchmarks/team/b/jobs/j",
            200,
            "application/json",
            b'{"job_id":"j","status":"done"}',
            "'done' is not one of",
        ),
        (
            STATUS,
            200,
            "application/json",
            b'{"job_uuid":"j","status":"failed","scheduled_at":"2024-01-31 10:00"}',
            "$.scheduled_at",
        ),
    ],
)
def test_what_is_wrong_is_seen(
    contract_violations: list[str], path: str, status: int, content_type: str | None, body: bytes, problem: str | None
) -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    def answer(request: Request) -> Response:
        headers = {} if content_type is None else {"content-type": content_type}
        # A body that comes in pieces is looked at as a whole.
        return StreamingResponse(iter([body[:7], body[7:]]), status, headers)

    def expect(num_places: int) -> None:
        assert len(contract_violations) == (0 if problem is None else num_places), contract_violations
        assert all(str(problem) in violation for violation in contract_violations)
        contract_violations.clear()

    with TestClient(app) as client:
        client.get(path)
    expect(1)
    with AppServer(app) as server:
        with httpx.Client(base_url=server.url) as client:
            client.get(path)
            expect(1)
            watch.follow(server.url)
            client.get(path)
            expect(2)  # in the app, and at the client
            watch.forget(server.url)


def test_asynchronous_clients_are_looked_at_too(contract_violations: list[str]) -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    def answer() -> dict[str, str]:
        return {"not": "a page"}

    with AppServer(app) as server:
        watch.follow(server.url)

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=server.url) as client:
                await client.get(ITERROWS)

        asyncio.run(ask())
        watch.forget(server.url)
    assert len(contract_violations) == 2  # in the app, and at the client
    contract_violations.clear()


def test_every_operation_has_its_path() -> None:
    for path, item in watch.CONTRACT["paths"].items():
        for method in item:
            filled = path.replace("{dataset_id}", "a/b").replace("{benchmark_id}", "c/d").replace("{job_id}", "e")
            found = list(watch.problems(method.upper(), filled, 299, "application/json", b"null"))
            assert found == ["the status 299 is not in the contract"], (path, method)

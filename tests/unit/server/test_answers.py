"""Errors in one shape, and the frame around every request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import Query
from fastapi.applications import FastAPI
from fastapi.testclient import TestClient

from paddock import routing, wire
from paddock.errors import (
    BackendError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    TooManyRequestsError,
)
from paddock.routing import PathId
from paddock.server import answers
from paddock.server.frame import RequestFrame
from paddock.settings import Settings


class _Strategy(wire.Schema):
    top_p: float


class _Body(wire.RequestBody):
    n: int
    strategy: _Strategy | None = None
    items: list[_Strategy] = []


_ERRORS = {
    "invalid": InvalidRequestError("n must be positive", pointer="/n"),
    "placeless": InvalidRequestError("the other side refused"),
    "missing": NotFoundError("no such thing"),
    "conflict": ConflictError("there is another"),
    "many": TooManyRequestsError("later", limit="test", retry_after_seconds=7),
    "backend": BackendError("down"),
    "space": NoSpaceError("full"),
    "bug": RuntimeError("secret /root/path"),
}


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    router = routing.router("T")

    @router.post("/body")
    def body(body: _Body) -> dict[str, int]:
        return {"n": body.n}

    @router.get("/raise/{name}")
    def fail(name: str) -> None:
        raise _ERRORS[name]

    @router.get("/things/{thing_id:path}")
    def thing(thing_id: PathId, limit: Annotated[int, Query()] = 1) -> str:
        return thing_id

    @router.delete("/things/{thing_id:path}")
    def remove(thing_id: PathId) -> None: ...

    app.include_router(router)
    app.add_middleware(RequestFrame, settings=Settings(max_body_bytes=2048, allowed_hosts=("paddock.example",)))
    answers.install(app)
    with TestClient(app, base_url="http://127.0.0.1:1", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("invalid", 400),
        ("missing", 404),
        ("conflict", 409),
        ("many", 429),
        ("backend", 502),
        ("space", 507),
        ("bug", 500),
    ],
)
def test_one_shape_for_every_error(client: TestClient, name: str, status: int) -> None:
    response = client.get(f"/raise/{name}")
    assert response.status_code == status
    body = response.json()
    assert body["status"] == status
    assert body["instance"] == response.headers["x-request-id"]
    assert "/root" not in response.text
    assert ("errors" in body) == (name == "invalid")
    assert response.headers.get("retry-after") == ("7" if name == "many" else None)
    assert response.headers.get("x-should-retry") == ("false" if name == "conflict" else None)


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        ("{}", ["/n"]),
        ('{"n": "x"}', ["/n"]),
        ('{"n": 1, "strategy": {}}', ["/strategy/top_p"]),
        ('{"n": 1, "items": [{"top_p": 1}, {"top_p": []}]}', ["/items/1/top_p"]),
        ("[]", [""]),
        ("{", [""]),
        ('{"n": NaN}', [""]),
        ("[" * 500, [""]),
    ],
)
def test_validation_names_the_place(client: TestClient, content: str, pointers: list[str]) -> None:
    response = client.post("/body", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == pointers


def test_unknown_routes_methods_and_ids(client: TestClient) -> None:
    assert client.get("/nowhere").json()["status"] == 404
    assert client.delete("/body").json()["status"] == 405
    assert client.get("/things/a%2F..%2Fb").status_code == 400
    assert client.get("/things/meta/mmlu").json() == client.get("/things/meta%2Fmmlu").json() == "meta/mmlu"
    assert client.get("/things/a?limit=x").json()["errors"][0]["pointer"] == "limit"


def test_ignored_fields_are_named(client: TestClient) -> None:
    response = client.post("/body", json={"n": 1, "x": 1, "strategy": {"top_p": 1, "ü": 2}})
    assert response.json() == {"n": 1}
    assert response.headers["paddock-ignored-fields"] == "/x, /strategy/\\xfc"
    assert "paddock-ignored-fields" not in client.post("/body", json={"n": 1}).headers
    response = client.post("/body", json={"n": 1, "a\r\nSet-Cookie: b=1": 1, "\x00\x7f": 1})
    assert response.headers["paddock-ignored-fields"] == r"/a\x0d\x0aSet-Cookie: b=1, /\x00\x7f"


def test_a_method_that_is_refused_hears_of_the_others(client: TestClient) -> None:
    for method, path in (("PUT", "/body"), ("POST", "/things/a")):
        response = client.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == ("POST" if path == "/body" else "GET, DELETE")


def test_answers_stay_small_whatever_was_sent(client: TestClient) -> None:
    response = client.post("/body", json={"n": 1, "items": [{}] * 100})
    assert [error["pointer"] for error in response.json()["errors"]] == [f"/items/{i}/top_p" for i in range(20)]
    assert len(response.json()["detail"]) <= 2000
    name = "x" * 900
    response = client.post(
        "/body", content=f'{{"{name}": 1, "{name}": 2}}', headers={"content-type": "application/json"}
    )
    (error,) = response.json()["errors"]
    assert (len(error["pointer"]), error["pointer"][-1]) == (500, "…")


def test_a_refusal_without_a_place_is_about_the_whole(client: TestClient) -> None:
    response = client.get("/raise/placeless")
    assert response.json()["errors"] == [{"pointer": "", "message": "the other side refused"}]


def test_a_large_body_is_refused_declared_or_not(client: TestClient) -> None:
    large = b'{"n": 1, "x": "' + b"x" * 4096 + b'"}'
    for content in (large, iter([large[:1000], large[1000:]])):
        response = client.post("/body", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert response.json()["title"] == "Content Too Large"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:99"}, 200),
        ({"host": "[::1]:99"}, 200),
        ({"host": "paddock.example"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://127.0.0.1:1"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 400),
        ({"content-type": "application/json; charset=UTF-8"}, 200),
        ({"content-type": "application/vnd.api+json"}, 200),
        ({"content-type": "application/json; charset=utf-16"}, 400),
        ({"content-type": "application/json, text/plain"}, 400),
        ({"content-encoding": "gzip"}, 400),
        ({"content-encoding": "identity"}, 200),
    ],
)
def test_no_web_page_drives_the_server(client: TestClient, headers: dict[str, str], status: int) -> None:
    response = client.post("/body", content='{"n": 1}', headers={"content-type": "application/json"} | headers)
    assert response.status_code == status

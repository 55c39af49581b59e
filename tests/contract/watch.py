"""Every answer of a Paddock server that a test gets is held to the contract: status, content type, body.

Two places see them all: `install` wraps the apps that run in the tests' own process, whoever calls them (starlette's
client, official clients, our command line), and httpx, whose answers count where they come from a server that was named
to `follow`. What is wrong is kept in `violations`, and fails the test during which it was seen (`conftest.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import fastapi
import httpx
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from starlette.types import Message, Receive, Scope, Send

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "llama-stack-experimental.yaml").read_text())

violations: list[str] = []
"""What was wrong with answers so far; whoever looks empties it."""

_FIELD_ERROR = {
    "type": "object",
    "required": ["pointer", "message"],
    "properties": {"pointer": {"type": "string"}, "message": {"type": "string", "minLength": 1}},
}
_ERROR = {
    "$ref": "#/components/schemas/Error",
    "properties": {"errors": {"type": "array", "minItems": 1, "items": _FIELD_ERROR}},
}
"""The contract's error, and what ours says beside it."""

_formats = FormatChecker(())


@_formats.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@cache
def _operations() -> list[tuple[re.Pattern[str], str, dict[str, Any]]]:
    """Path and method of each operation; ids may hold slashes, so paths with more words of their own come first."""
    paths = sorted(CONTRACT["paths"], key=lambda path: -len(re.sub(r"\{\w+\}", "", path)))
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(path))), method.upper(), operation)
        for path in paths
        for method, operation in CONTRACT["paths"][path].items()
    ]


@cache
def _validator(schema_json: str) -> Validator:
    schema = json.loads(schema_json) | {"components": CONTRACT["components"]}
    return Draft202012Validator(schema, format_checker=_formats)


def problems(method: str, path: str, status: int, content_type: str | None, body: bytes) -> Iterator[str]:
    """What the contract says against an answer. An answer to a route that it does not have is held to it if it is an
    error, for all errors have one shape."""
    operation = next((o for pattern, verb, o in _operations() if verb == method and pattern.fullmatch(path)), None)
    if status < 400 and operation is None:
        return
    if method == "HEAD":
        return
    if status >= 400:
        schema = _ERROR
    elif str(status) not in operation["responses"]:  # type: ignore[index]
        yield f"the status {status} is not in the contract"
        return
    else:
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]  # type: ignore[index]
    if content_type != "application/json":
        yield f"the content type is {content_type!r}"
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_int=_some_int)
    except ValueError as error:
        yield f"no JSON: {error}"
        return
    for error in _validator(json.dumps(schema)).iter_errors(value):
        yield f"{error.json_path}: {error.message:.300}"
    if status >= 400 and isinstance(value, dict) and value.get("status") != status:
        yield f"the body says {value.get('status')}"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _some_int(digits: str) -> int:
    return int(digits[:1000])  # Python refuses thousands of digits, the contract does not


def look(method: str, path: str, status: int, content_type: str | None, body: bytes) -> None:
    """Keep what is wrong with an answer in `violations`."""
    found = "; ".join(problems(method, path, status, content_type, body))
    if found:
        violations.append(f"{method} {path} → {status}: {found}; body {body[:500]!r}")


# ---------------------------------------------------------------------------------------------------- the two places

_followed: set[str] = set()


def follow(url: str) -> None:
    """Answers that httpx gets from this address come from a Paddock server."""
    _followed.add(url)


def forget(url: str) -> None:
    """The server is gone; somebody else may get its port."""
    _followed.discard(url)


def install() -> None:
    """Look at every answer from here on."""
    _wrap_apps()
    _wrap_httpx()


def _wrap_apps() -> None:
    call = fastapi.FastAPI.__call__

    async def watched(self: fastapi.FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "contract.watched" in scope:
            await call(self, scope, receive, send)
            return
        scope["contract.watched"] = True
        start: Message = {}
        chunks: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))
                if not message.get("more_body", False):
                    headers = {name.lower(): value for name, value in start["headers"]}
                    content_type = headers.get(b"content-type")
                    media_type = None if content_type is None else content_type.decode("latin-1")
                    look(scope["method"], scope["path"], start["status"], media_type, b"".join(chunks))
            await send(message)

        await call(self, scope, receive, keep)

    fastapi.FastAPI.__call__ = watched  # type: ignore[method-assign]


def _wrap_httpx() -> None:
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def watched(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(self, request, **options)
        if not options.get("stream"):
            _look_at(response)
        return response

    async def watched_async(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send_async(self, request, **options)
        if not options.get("stream"):
            _look_at(response)
        return response

    httpx.Client.send = watched  # type: ignore[method-assign]
    httpx.AsyncClient.send = watched_async  # type: ignore[method-assign]


def _look_at(response: httpx.Response) -> None:
    request = response.request
    if f"{request.url.scheme}://{request.url.netloc.decode()}" in _followed:
        content_type = response.headers.get("content-type")
        look(request.method, request.url.path, response.status_code, content_type, response.content)

"""One mapping from whatever went wrong to the contract's `Error`, and one shape on the wire."""

from __future__ import annotations

import http
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from paddock import wire
from paddock.errors import (
    FieldError,
    InvalidRequestError,
    PaddockError,
    TooManyRequestsError,
    UnauthorizedError,
)

_MAX_ERRORS = 20
_MAX_CHARACTERS = {"detail": 2000, "message": 500, "pointer": 500}
"""A body with thousands of wrong items is told about the first ones, and megabytes that a sentence quotes are cut: the
answer stays small."""


def install(app: FastAPI) -> None:
    """Answer every error that `app` foresees in the contract's shape; the others are bugs, and `RequestFrame`'s."""
    app.add_exception_handler(PaddockError, _on_paddock_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)


def error_response(error: PaddockError, request_id: str | None) -> Response:
    """The answer to a request that failed with `error`."""
    content: dict[str, Any] = {
        "status": error.status,
        "title": error.title,
        "detail": _cut("detail", error.detail),
        "instance": request_id,
    }
    if error.status == http.HTTPStatus.BAD_REQUEST:
        # What has no place of its own, such as a remote server's refusal, is about the whole.
        fields = getattr(error, "errors", ()) or (FieldError("", error.detail),)
        content["errors"] = [
            {"pointer": _cut("pointer", e.pointer), "message": _cut("message", e.message)} for e in fields[:_MAX_ERRORS]
        ]
    headers = {}
    if error.status == http.HTTPStatus.CONFLICT:
        # The official client repeats a 409 by itself, which would only say the same again.
        headers["x-should-retry"] = "false"
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = error.challenge
    return Response(wire.to_json(content), error.status, headers, media_type="application/json")


def _cut(name: str, text: str) -> str:
    most = _MAX_CHARACTERS[name]
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _request_id(request: Request) -> str | None:
    request_id: str | None = request.scope.get("paddock.request_id")
    return request_id


async def _on_paddock_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PaddockError)
    return _answer(request, error)


def _answer(request: Request, error: PaddockError) -> Response:
    # The frame counts what was refused, and for which limit.
    request.scope["paddock.error"] = error
    return error_response(error, _request_id(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error, HTTPException) and isinstance(error.detail, PaddockError):
        return _answer(request, error.detail)
    answer = PaddockError(_SENTENCES.get(error.status_code, str(error.detail)))
    answer.status = error.status_code
    answer.title = http.HTTPStatus(error.status_code).phrase
    response = error_response(answer, _request_id(request))
    response.headers.update(error.headers or {})
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> Iterator[str]:
    """The methods that some route knows at this path; Starlette names only those of the first one."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield method


_SENTENCES = {
    404: "There is no such route. `/v1/inspect/routes` lists those that there are.",
    405: "This route does not know that method. `/v1/inspect/routes` lists the routes and their methods.",
}


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field_error(found, error.body) for found in error.errors()[:_MAX_ERRORS]]
    detail = "; ".join(f"{field.pointer or 'body'}: {field.message}" for field in fields)
    return error_response(InvalidRequestError(detail, errors=tuple(fields)), _request_id(request))


def _field_error(found: dict[str, Any], body: Any) -> FieldError:
    place, *path = found["loc"]
    message = str(found["msg"]).removeprefix("Value error, ")
    if place != "body":
        return FieldError(str(path[0]) if path else str(place), message)
    return FieldError(_pointer(path, body, is_missing=found["type"] == "missing"), message)


def _pointer(path: list[str | int], body: Any, *, is_missing: bool) -> str:
    """The JSON pointer of an error's place. Pydantic names the members of unions on the way: what is neither a key nor
    an index of the body is such a name, unless it is the last part of the place of a field that is missing."""
    tokens = []
    for part in path:
        in_object = isinstance(body, dict) and part in body
        in_array = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if in_object or in_array:
            body = body[part]
        elif not (is_missing and part is path[-1]):
            continue
        tokens.append(wire.escape_pointer(str(part)))
    return "".join(f"/{token}" for token in tokens)

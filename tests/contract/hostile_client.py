"""Sends a hostile request over a socket of its own, and says what is wrong with the answer."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from contract import watch
from contract.hostile import Hostile

MAX_ERROR_BYTES = 32 * 1024

_INSIDES = re.compile(
    rb"Traceback|site-packages|\.py\b|/tmp/|/root/|/home/|sqlite|127\.0\.0\.1|0x[0-9a-f]{8}", re.IGNORECASE
)


@dataclass(frozen=True)
class Answer:
    """What came back; `status` None if the connection just ended."""

    status: int | None
    headers: dict[str, str]
    body: bytes


class _Received:
    """A socket's bytes, as `http.client` wants them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._content)


def send(url: str, request: Hostile, *, timeout_seconds: float = 60) -> Answer:
    """The answer to one request."""
    parts = urlsplit(url)
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_seconds) as connection:
        # A refusal may come, and the connection end, before all was sent.
        with suppress(ConnectionError):
            connection.sendall(request.sent(parts.netloc))
        with suppress(ConnectionError):
            while chunk := connection.recv(1 << 16):
                received += chunk
    if not received:
        return Answer(None, {}, b"")
    response = http.client.HTTPResponse(_Received(received), method=request.method)  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, response.read())


def problems(request: Hostile, answer: Answer) -> Iterator[str]:
    """What is wrong with the answer to a request."""
    if request.no_http and (answer.status is None or answer.body == b"Invalid HTTP request received."):
        return  # it never became a request
    if answer.status not in request.statuses:
        yield f"answered {answer.status}, not {request.statuses}: {answer.body[:300]!r}"
        return
    if "\n" in "".join(answer.headers.values()) or "set-cookie" in answer.headers:
        yield f"headers of its own: {answer.headers}"
    path = unquote(urlsplit(request.target).path) if request.target.startswith("/") else request.target
    yield from watch.problems(request.method, path, answer.status, answer.headers.get("content-type"), answer.body)
    if answer.status < 400 or request.method == "HEAD":
        return
    if len(answer.body) > MAX_ERROR_BYTES:
        yield f"an error of {len(answer.body)} bytes"
    sent = request.target.encode(errors="replace") + (request.body or b"")
    for found in _INSIDES.findall(answer.body):
        if found.lower() not in sent.lower():
            yield f"an inside of the server: {found!r} in {answer.body[:500]!r}"
    error = json.loads(answer.body)
    if answer.headers.get("x-request-id") != error["instance"]:
        yield f"the instance {error['instance']} is not the request's id"
    if not error["detail"]:
        yield "no detail"
    if answer.status == 400 and not error.get("errors"):
        yield f"a refusal that names no place: {error['detail']}"

"""One request and its answer on their way through the frame: what has come, what has gone, and the limits on both.

A body is bounded in size and in time. An answer gets its headers here, and closes the connection if the request's body
is not going to be read: nobody has to send 60 MB to learn that they are too many.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from paddock.errors import BodyTooLargeError, PaddockError, RequestTimeoutError
from paddock.server.admission import Admission
from paddock.server.browsers import declares_body
from paddock.settings import Settings

_BYTES_A_SECOND = 256 * 1024
"""A body may take a second longer for each of these."""

_MAX_IGNORED_IN_HEADER = 20

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

_SMALL_BODY_BYTES = 64 * 1024
"""A body of this size is read to its end and forgotten sooner than a connection is closed over it."""


class Exchange:
    """A request's `receive` and an answer's `send`, as the routes see them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings, admission: Admission) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.request_id = f"req-{uuid.uuid4().hex}"
        self.started_at = time.perf_counter()
        self.status = 0
        self.num_bytes_received = 0
        self.num_bytes_sent = 0
        self.answer_headers: dict[str, str] = {}
        self.ignored: list[str] = []
        self._receive = receive
        self._send = send
        self._settings = settings
        self._admission = admission
        self._body_ended = not declares_body(self.headers)
        self._gave_up = False  # what is missing of the body is not waited for any more
        self._has_place = False
        self._when_received: Callable[[], None] | None = None

    def check_length(self) -> None:
        """Raise `BodyTooLargeError` for a body that says itself that it is too large."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body_bytes:
            raise self._too_large()

    def take_place_when_received(self) -> None:
        """Take a place among the requests in flight, once all of this one is there. Raises `TooManyRequestsError`."""
        self._admission.check()
        if self._body_ended:
            self._take_place()
        else:
            self._when_received = self._take_place

    def _take_place(self) -> None:
        self._admission.enter()
        self._has_place = True

    def end(self) -> None:
        """Give back what this request held."""
        self._admission.hold_body(self.num_bytes_received, 0)
        if self._has_place:
            self._admission.leave()

    async def receive(self) -> Message:
        """The next piece of the request."""
        if self._body_ended:
            return await self._receive()
        try:
            return await self._receive_body()
        except PaddockError as error:
            # FastAPI passes on an HTTPException unchanged and hides every other error behind one of its own.
            raise HTTPException(error.status, detail=error) from error

    async def _receive_body(self) -> Message:
        allowed = self._settings.body_timeout_seconds + self.num_bytes_received / _BYTES_A_SECOND
        try:
            async with asyncio.timeout(self.started_at + allowed - time.perf_counter()):
                message = await self._receive()
        except TimeoutError:
            self._gave_up = True
            raise RequestTimeoutError(
                f"The body did not arrive within {allowed:.0f} s (`body_timeout_seconds`)."
            ) from None
        before = self.num_bytes_received
        now = before + len(message.get("body", b""))
        if now > self._settings.max_body_bytes:
            raise self._too_large()
        self._admission.hold_body(before, now)
        self.num_bytes_received = now
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_ended = True
            if self._when_received is not None:
                self._when_received()
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer; its start gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._complete(MutableHeaders(scope=message))
        elif message["type"] == "http.response.body":
            self.num_bytes_sent += len(message.get("body", b""))
        if not self._has_place:
            await self._send(message)
            return
        self._admission.leave()  # while a client that is slow to read lets it wait
        try:
            await self._send(message)
        finally:
            self._admission.resume()

    def _complete(self, headers: MutableHeaders) -> None:
        headers["X-Request-Id"] = self.request_id
        headers.setdefault("Cache-Control", "no-store")
        headers["X-Content-Type-Options"] = "nosniff"
        for name, value in self.answer_headers.items():
            headers[name] = value
        if self.ignored:
            headers["Paddock-Ignored-Fields"] = self.ignored_fields
        if not self._body_ended and (self._gave_up or not self._is_small()):
            headers["Connection"] = "close"

    def _is_small(self) -> bool:
        length = self.headers.get("content-length", "")
        return length.isdecimal() and int(length) <= _SMALL_BODY_BYTES

    @property
    def ignored_fields(self) -> str:
        """Pointers to what nothing reads, as one header value: printable ASCII, the first ones only."""
        more = ", …" if len(self.ignored) > _MAX_IGNORED_IN_HEADER else ""
        shown = ", ".join(self.ignored[:_MAX_IGNORED_IN_HEADER]) + more
        ascii_only = shown.encode("ascii", "backslashreplace").decode()
        return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", ascii_only)[:2000]

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body is over {self._settings.max_body_bytes} bytes (`max_body_bytes`).")

"""The frame around every request: its id, who may ask, how much may be sent, the headers of the answer, one log line.

Plain ASGI, for it also wraps streams. Open on loopback without keys is not open to web pages: `Host` must be known, a
foreign `Origin` is refused, a body must be declared as JSON, and there is no CORS.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import uuid
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddock import wire
from paddock.errors import BodyTooLargeError, ForbiddenError, InvalidRequestError, PaddockError
from paddock.server.answers import error_response
from paddock.settings import Settings

log = logging.getLogger("paddock.requests")

_MAX_IGNORED_IN_HEADER = 20
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.-]+\+)?json")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class RequestFrame:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = time.perf_counter()
        request_id = f"req-{uuid.uuid4().hex}"
        scope["paddock.request_id"] = request_id
        ignored: list[str] = []
        wire.ignored_fields.set(ignored)
        status = 0

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if ignored:
                    headers["Paddock-Ignored-Fields"] = _header_list(ignored)
            await send(message)

        try:
            self._admit(Headers(scope=scope), scope["method"])
            await self._app(scope, self._limited(receive), send_framed)
        except PaddockError as error:
            await error_response(error, request_id)(scope, receive, send_framed)
        except Exception:
            log.exception("Request %s met a bug.", request_id)
            if status:
                raise  # the answer was under way: the connection breaks off, and its reader knows
            bug = PaddockError("The server met an unexpected error; its log has the details under this instance.")
            await error_response(bug, request_id)(scope, receive, send_framed)
        finally:
            milliseconds = (time.perf_counter() - started_at) * 1000
            extra = f" ignored={_header_list(ignored)}" if ignored else ""
            log.info("%s %s %d %.1fms %s%s", scope["method"], scope["path"], status, milliseconds, request_id, extra)

    def _admit(self, headers: Headers, method: str) -> None:
        host = headers.get("host", "")
        if not self._is_known_host(_host_name(host)):
            raise ForbiddenError("The Host header names neither this machine nor a configured host (`allowed_hosts`).")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise ForbiddenError("Requests from pages of another origin are refused.")
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._settings.max_body_bytes:
            raise self._too_large()
        has_body = length not in (None, "0") or "transfer-encoding" in headers
        if has_body and method in ("POST", "PUT", "PATCH") and not _is_json(headers.get("content-type", "")):
            raise InvalidRequestError(
                "The body must be JSON in UTF-8: send the header `Content-Type: application/json`.",
                pointer="Content-Type",
            )
        if has_body and headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise InvalidRequestError(
                "Bodies are taken as they are, not compressed: send no `Content-Encoding`.", pointer="Content-Encoding"
            )

    def _is_known_host(self, name: str) -> bool:
        if name in ("localhost", self._settings.host.lower(), *self._settings.allowed_hosts):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body is over {self._settings.max_body_bytes} bytes (`max_body_bytes`).")

    def _limited(self, receive: Receive) -> Receive:
        num_bytes = 0

        async def limited() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._settings.max_body_bytes:
                error = self._too_large()
                # FastAPI passes on an HTTPException unchanged and hides every other error behind one of its own.
                raise HTTPException(error.status, detail=error)
            return message

        return limited


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_json(content_type: str) -> bool:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [parameter.partition("=")[2].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    return _JSON_TYPE.fullmatch(media_type) is not None and all(c in ("utf-8", "utf8", "us-ascii") for c in charsets)


def _header_list(pointers: list[str]) -> str:
    """Pointers as one header value: printable ASCII, the first ones only."""
    shown = ", ".join(pointers[:_MAX_IGNORED_IN_HEADER]) + (", …" if len(pointers) > _MAX_IGNORED_IN_HEADER else "")
    ascii_only = shown.encode("ascii", "backslashreplace").decode()
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", ascii_only)[:2000]

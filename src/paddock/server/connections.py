"""The server's open connections: how many there are, and how long each may keep it waiting.

Laid around uvicorn's own HTTP protocol, which knows no bound for a head that never ends, for an answer that nobody takes,
or for the number of connections. A connection that waits for its client is the first to go when there are too many:
thousands of slow clients keep nobody else out. What is over is found by one look a second at all of them.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import uuid
from collections import OrderedDict
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from paddock.errors import HeadersTooLargeError, InvalidRequestError, PaddockError, RequestTimeoutError
from paddock.server.answers import error_response
from paddock.settings import Settings

_MAX_HEAD_BYTES = 64 * 1024
"""Bytes that may come without a head being complete or a body growing: headers, trailers, the sizes of chunks."""

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 16 * 1024 * 1024
"""How long, and how much, is thrown away of what a client still sends behind its answer, so that it reads the answer
before it is cut off."""


class Connections:
    """All connections of one server."""

    def __init__(self, settings: Settings, max_connections: int) -> None:
        self._max_connections = max_connections
        self._header_seconds = settings.header_timeout_seconds
        self._write_seconds = settings.write_timeout_seconds
        self._open: set[Connection] = set()
        self._waiting: OrderedDict[Connection, None] = OrderedDict()

    def protocol(self, *args: Any, **kwargs: Any) -> Connection:
        """A new connection, as uvicorn asks for one."""
        return Connection(self, *args, **kwargs)

    def opened(self, connection: Connection) -> None:
        """Take a connection in; if it is one too many, the one goes that has waited longest for its client."""
        self._open.add(connection)
        if len(self._open) > self._max_connections:
            # Where all others are being worked for, it is the new one itself.
            self._waiting.popitem(last=False)[0].cut()

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def waits(self, connection: Connection) -> None:
        """It is the client's turn."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def works(self, connection: Connection) -> None:
        """It is the server's turn."""
        self._waiting.pop(connection, None)

    async def sweep(self) -> None:
        """End what has taken too long. To be called about once a second."""
        now = time.monotonic()
        for connection in list(self._open):
            connection.check(now, self._header_seconds, self._write_seconds)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._head_since: float | None = None  # since when the rest of a head has been awaited
        self._linger_since: float | None = None
        self._rest_since: float | None = None  # since when the rest of an answered request's body has been awaited
        self._num_idle_bytes = 0  # that came without completing a head or adding to a body
        self._message_complete = True
        self._unsent = 0
        self._unsent_since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_since = time.monotonic()
        self._all.waits(self)
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._linger_since is not None or self.transport.is_closing():
            # It was answered and is being closed.
            self._num_idle_bytes += len(data)
            if self._num_idle_bytes > _LINGER_BYTES:
                self.cut()
            return
        if self._head_since is None and self._is_idle():
            self._head_since = time.monotonic()
        self._num_idle_bytes += len(data)
        super().data_received(data)
        if self._num_idle_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLargeError(f"A request's head has at most {_MAX_HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        self._message_complete = False
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since = self._rest_since = None
        self._num_idle_bytes = 0
        super().on_headers_complete()
        self.cycle.transport = _LingeringTransport(self)  # type: ignore[assignment]  # all that is used of one

    def on_body(self, body: bytes) -> None:
        self._num_idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_complete = True
        self._num_idle_bytes = 0
        super().on_message_complete()
        if self._rest_since is None:
            self._all.works(self)
        else:  # the end of a body that was answered before: the connection is as good as new
            self._rest_since = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return  # another request that came meanwhile is the server's turn
        self._all.waits(self)
        if not self._message_complete:
            self._rest_since = time.monotonic()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequestError("This is not an HTTP request that can be read."))

    def _unsupported_upgrade_warning(self) -> None:
        pass  # it is answered as the plain HTTP request that it also is; a line of the log is not the client's to write

    def _is_idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and self._message_complete)

    def check(self, now: float, header_seconds: float, write_seconds: float) -> None:
        """End this connection if it has kept the server waiting too long."""
        if self._head_since is not None and now - self._head_since > header_seconds:
            self._head_since = None
            if self._num_idle_bytes:
                self._refuse(
                    RequestTimeoutError("The request's head did not arrive in time (`header_timeout_seconds`).")
                )
            else:
                self.transport.close()
        for since in (self._linger_since, self._rest_since):
            if since is not None and now - since > _LINGER_SECONDS:
                self.cut()
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > write_seconds:
            self.cut()

    def cut(self) -> None:
        """End the connection at once, whatever is under way on it; the kernel keeps nothing of it either."""
        with contextlib.suppress(OSError):  # it is gone already
            option = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self.transport.abort()

    def linger(self) -> None:
        """Close, but let a client that is still sending read its answer first."""
        if self._message_complete or self.transport.is_closing():
            self.transport.close()
            return
        self._linger_since = time.monotonic()
        self._num_idle_bytes = 0
        self._all.waits(self)
        self.flow.resume_reading()
        self.transport.write_eof()

    def _refuse(self, error: PaddockError) -> None:
        """Answer what is no request, or not to its end, and close; an answer that is under way is cut off."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.cut()
                return
            self.cycle.disconnected = True  # to the app, its client has left
            self.cycle.message_event.set()
        request_id = f"req-{uuid.uuid4().hex}"
        response = error_response(error, request_id)
        response.headers.update({"Connection": "close", "Cache-Control": "no-store", "X-Request-Id": request_id})
        self.transport.write(_raw(response))
        self._message_complete = False  # what else the client sends is no request
        self.linger()


class _LingeringTransport:
    """What a request's answer is written to: the connection's transport, with its own way of closing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.linger()


def _raw(response: Response) -> bytes:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body)

"""The frame around every request, in order: its id, what may come from a browser, who asks and how often, whether there
is room; then the routes; then one log line and the counters.

Plain ASGI, for it also wraps streams. What each step checks stands in a module of its own.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from paddock import wire
from paddock.errors import ClientLeftError, PaddockError, TooManyRequestsError
from paddock.server import admission, logs
from paddock.server.admission import Admission
from paddock.server.answers import error_response
from paddock.server.browsers import Browsers
from paddock.server.callers import OPEN_PATHS, Callers, address_of
from paddock.server.exchange import Exchange
from paddock.server.metrics import UNROUTED, Metrics
from paddock.settings import Settings

if TYPE_CHECKING:
    from paddock.server.rate_limits import RateLimits

log = logging.getLogger("paddock.requests")


class RequestFrame:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        callers: Callers | None = None,
        admission: Admission | None = None,
        rate_limits: RateLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._callers = callers or Callers(settings)
        self._admission = admission or Admission(settings)
        self._rate_limits = rate_limits
        self._metrics = metrics or Metrics()
        self._browsers = Browsers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._settings, self._admission)
        scope["paddock.request_id"] = exchange.request_id
        scope["paddock.caller"] = ""
        wire.ignored_fields.set(exchange.ignored)
        try:
            await self._admit(exchange)
            await self._app(scope, exchange.receive, exchange.send)
        except PaddockError as error:
            scope["paddock.error"] = error
            await error_response(error, exchange.request_id)(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = ClientLeftError.status
        except Exception:
            log.exception("Request %s met a bug.", exchange.request_id)
            if exchange.status:
                raise  # the answer was under way: the connection breaks off, and its reader knows
            bug = PaddockError("The server met an unexpected error; its log has the details under this instance.")
            await error_response(bug, exchange.request_id)(scope, receive, exchange.send)
        finally:
            exchange.end()
            self._note(exchange)

    async def _admit(self, exchange: Exchange) -> None:
        scope, headers = exchange.scope, exchange.headers
        method, path = scope["method"], scope["path"]
        self._browsers.check(method, headers)
        exchange.check_length()
        if path in OPEN_PATHS:
            return
        try:
            caller = await self._callers.identify(headers)
        except PaddockError:
            # Guessing keys is limited too, by address.
            await self._limit(exchange, "")
            raise
        scope["paddock.caller"] = caller.name
        await self._limit(exchange, caller.name)
        caller.check_role(method)
        if admission.costs_something(method, path):
            exchange.take_place_when_received()

    async def _limit(self, exchange: Exchange, caller: str) -> None:
        if self._rate_limits is not None:
            await self._rate_limits.spend(caller or address_of(exchange.scope.get("client")), exchange.answer_headers)

    def _note(self, exchange: Exchange) -> None:
        scope = exchange.scope
        route = getattr(scope.get("route"), "path", UNROUTED)
        error = scope.get("paddock.error")
        if isinstance(error, TooManyRequestsError):
            self._metrics.count_refusal(error.limit)
        self._metrics.count_rows(scope.get("paddock.rows", {}))
        self._metrics.count_request(
            route=route,
            method=scope["method"],
            status=exchange.status,
            seconds=time.perf_counter() - exchange.started_at,
            num_bytes_received=exchange.num_bytes_received,
            num_bytes_sent=exchange.num_bytes_sent,
        )
        logs.request_line(exchange, scope["paddock.caller"], route)

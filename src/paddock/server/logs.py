"""The server's log: lines for people, or one JSON object a line (`log_format`); and the one line that each request gets.

A request's line holds its path as it was sent (encoded, so that nobody writes lines of his own), never its query, a key
or a body.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

from paddock.server.exchange import Exchange

_requests = logging.getLogger("paddock.requests")

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: str, log_format: str) -> None:
    """Send the process's log to standard error."""
    # What no line shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; a request's parts are fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def request_line(exchange: Exchange, caller: str, route: str) -> None:
    """Log a request that has been answered."""
    if not _requests.isEnabledFor(logging.INFO):
        return
    scope = exchange.scope
    path = (scope.get("raw_path") or b"").decode("ascii", "backslashreplace")
    milliseconds = round((time.perf_counter() - exchange.started_at) * 1000, 1)
    fields = {
        "request_id": exchange.request_id,
        "method": scope["method"],
        "path": path,
        "route": route,
        "status": exchange.status,
        "milliseconds": milliseconds,
        "bytes_received": exchange.num_bytes_received,
        "bytes_sent": exchange.num_bytes_sent,
        "caller": caller,
        "address": scope["client"][0] if scope.get("client") else "",
    }
    if exchange.ignored:
        fields["ignored"] = exchange.ignored_fields
    extra = f" ignored={exchange.ignored_fields}" if exchange.ignored else ""
    who = f" {caller!a}" if caller else ""
    _requests.info(
        "%s %s %d %.1fms %s%s%s",
        *(scope["method"], path, exchange.status, milliseconds, exchange.request_id, who, extra),
        extra={"fields": fields},
    )

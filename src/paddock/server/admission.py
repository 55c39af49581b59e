"""How much is done at once. What comes beyond is refused right away instead of waiting in a queue that only grows.

Under more load than a server can do, a queue makes every answer late until nobody waits for it; a refusal costs next to
nothing and tells the client when to come again. A request takes its place when all of it has arrived, and has
none while its client is slow to take the answer: slow clients hold no places.
"""

from __future__ import annotations

from paddock.errors import TooManyRequestsError
from paddock.settings import Settings

_ROWS = "/v1beta/datasetio/iterrows/"
_CANCEL = "/cancel"

_RETRY_AFTER_SECONDS = 1
_MAX_LARGE_BODIES = 4
"""The bodies in memory together are as large as so many of the largest."""
_SMALL_BODY_BYTES = 64 * 1024
"""So much of each body is not counted: large bodies that arrive slowly never keep small ones out."""

_CHEAP_THREADS = 40
"""Threads beside those of counted requests: the ones that look things up never wait behind them."""


def costs_something(method: str, path: str) -> bool:
    """Whether a request counts. Looking things up, deleting and cancelling are never refused."""
    if method == "POST":
        return not path.endswith(_CANCEL)
    return path.startswith(_ROWS)


class Admission:
    """What one server has in its hands."""

    def __init__(self, settings: Settings) -> None:
        self._max_in_flight = settings.max_requests_in_flight
        self._max_body_bytes = _MAX_LARGE_BODIES * settings.max_body_bytes
        self.num_in_flight = 0
        self._num_body_bytes = 0

    @property
    def num_threads(self) -> int:
        """Threads that the routes may use at once."""
        return self._max_in_flight + _CHEAP_THREADS

    def check(self) -> None:
        """Raise `TooManyRequestsError` if no place is free."""
        if self.num_in_flight >= self._max_in_flight:
            raise TooManyRequestsError(
                f"{self._max_in_flight} requests are being worked on (`max_requests_in_flight`): try again in a moment.",
                limit="max_requests_in_flight",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    def enter(self) -> None:
        """Take a place, until `leave`. Raises `TooManyRequestsError`."""
        self.check()
        self.num_in_flight += 1

    def leave(self) -> None:
        """Give the place back."""
        self.num_in_flight -= 1

    def resume(self) -> None:
        """Take the place again after a while without: what was taken on is not refused half way."""
        self.num_in_flight += 1

    def hold_body(self, before: int, now: int) -> None:
        """A body grew from `before` to `now` bytes; it shrinks to 0 in the end. Raises `TooManyRequestsError`."""
        grown = max(0, now - _SMALL_BODY_BYTES) - max(0, before - _SMALL_BODY_BYTES)
        if grown > 0 and self._num_body_bytes + grown > self._max_body_bytes:
            raise TooManyRequestsError(
                "The server has its hands full of large bodies: try again in a moment, or send smaller ones.",
                limit="body_bytes",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        self._num_body_bytes += grown

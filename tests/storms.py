"""Kinds of model servers that refuse (429), as their limits on requests are: what they admit, and what they would have
admitted at most in a time. Times are seconds of any clock, from 0 on.

The tests run them on a simulated clock, `benchmarks/evaluation.py` on the wall's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Refused(Exception):
    """429, with the pause that the server asks for, or None."""

    def __init__(self, pause_seconds: float | None = None) -> None:
        self.pause_seconds = pause_seconds


class Storm(Protocol):
    """What decides over a server's requests."""

    def admit(self, now: float) -> None:
        """Take a request on. Raises `Refused`."""
        ...

    def leave(self, now: float) -> None:
        """A request that was taken on is answered."""
        ...

    def used(self, now: float) -> float:
        """What was admitted until now."""
        ...

    def allowed(self, start: float, end: float) -> float:
        """What would have been at most, had there always been a request from `start` to `end`."""
        ...


@dataclass
class Bucket:
    """A token bucket: `rate` requests a second, after a lull up to `burst` at once. It is open for `open_seconds` of every
    `every_seconds`; between it refuses everything, and fills no further."""

    rate: float
    burst: float
    pause_seconds: float | None = None
    open_seconds: float = 1.0
    every_seconds: float = 1.0

    def __post_init__(self) -> None:
        self._tokens = self.burst
        self._filled_at = 0.0
        self._num_admitted = 0

    def admit(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + self.rate * (self._open_until(now) - self._filled_at))
        self._filled_at = self._open_until(now)
        is_open = now % self.every_seconds < self.open_seconds or self.open_seconds == self.every_seconds
        if not is_open or self._tokens < 1:
            raise Refused(self.pause_seconds)
        self._tokens -= 1
        self._num_admitted += 1

    def leave(self, now: float) -> None:
        pass

    def used(self, now: float) -> float:
        return self._num_admitted

    def allowed(self, start: float, end: float) -> float:
        return self.burst + self.rate * (self._open_until(end) - self._open_until(start))

    def _open_until(self, now: float) -> float:
        """The seconds until now in which it was open."""
        periods, rest = divmod(now, self.every_seconds)
        return periods * self.open_seconds + min(rest, self.open_seconds)


@dataclass
class Window:
    """`quota` requests in each `seconds`; the first window begins with the first request. What it refuses it asks to wait
    for the next window, in whole seconds as HTTP has it, or does not say."""

    quota: int
    seconds: float
    says_when: bool

    def __post_init__(self) -> None:
        self._first_at: float | None = None
        self._window = 0
        self._num_in_window = 0
        self._num_admitted = 0

    def admit(self, now: float) -> None:
        self._first_at = now if self._first_at is None else self._first_at
        window = int((now - self._first_at) / self.seconds)
        if window > self._window:
            self._window, self._num_in_window = window, 0
        if self._num_in_window >= self.quota:
            rest = self._first_at + (self._window + 1) * self.seconds - now
            raise Refused(math.ceil(rest) if self.says_when else None)
        self._num_in_window += 1
        self._num_admitted += 1

    def leave(self, now: float) -> None:
        pass

    def used(self, now: float) -> float:
        return self._num_admitted

    def allowed(self, start: float, end: float) -> float:
        """The last window's whole quota, too: it may be used up at once."""
        return self.quota * math.ceil((end - start) / self.seconds)


@dataclass
class Places:
    """At most `num_places` requests at once."""

    num_places: int
    pause_seconds: float | None = None

    def __post_init__(self) -> None:
        self._num_busy = 0
        self._changed_at = 0.0
        self._busy_seconds = 0.0

    def admit(self, now: float) -> None:
        if self._num_busy >= self.num_places:
            raise Refused(self.pause_seconds)
        self._count(now, 1)

    def leave(self, now: float) -> None:
        self._count(now, -1)

    def _count(self, now: float, change: int) -> None:
        self._busy_seconds += self._num_busy * (now - self._changed_at)
        self._num_busy, self._changed_at = self._num_busy + change, now

    def used(self, now: float) -> float:
        """In seconds of a place."""
        return self._busy_seconds + self._num_busy * (now - self._changed_at)

    def allowed(self, start: float, end: float) -> float:
        return self.num_places * (end - start)

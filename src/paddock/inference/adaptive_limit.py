"""How many requests a provider gets at once: as many as it answers faster for, fewer as soon as it says that it is busy.

The limit climbs while that raises the rate of answers, goes back to where it was best when it does not, and tries again now
and then. A server that refuses (429, 503) lowers it, and is approached step by step from then on. What was refused waits and
is sent again, sooner when another request is answered: the answer shows that there is room. Nothing is sent as long as the
server asks for a pause. Of HTTP it knows nothing; `remote` tells it what came of each request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable

START = 32
"""Requests in flight at first."""

LEAST = 8
"""However often a server refuses, so many are tried, each after a pause: enough to take what it frees at once."""

_CLIMB = 1.5
_WORTH = 1.05
"""A higher limit stays if answers come faster by so much."""

_BACK_OFF = 0.9
_WINDOWS_AT_REST = 20
"""Windows until a higher limit than the best one is tried again."""

_MIN_WINDOW_ANSWERS = 20

_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0

_Place = asyncio.Future[None]


class AdaptiveLimit:
    """`async with limit:` around a request and its repetitions; `answered` and `refused` tell what came of each try. Lives
    on one event loop."""

    def __init__(self, most: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = min(START, most)
        self.in_flight = 0
        self._most = most
        self._least = min(LEAST, most)
        self._now = now
        self._waiting: deque[_Place] = deque()
        self._pausing: deque[_Place] = deque()
        self._closed_until = 0.0
        self._refused_at: int | None = None
        self._best_rate = 0.0
        self._best_limit = self.limit
        self._num_windows_at_rest = 0
        self._was_refused = False
        self._is_settled = True
        self._begin_window()

    async def __aenter__(self) -> None:
        if self.in_flight < self.limit:
            self.in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place  # whoever lets this one in has counted it
        except asyncio.CancelledError:
            if place.cancelled():
                self._waiting.remove(place)
            else:
                await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.in_flight -= 1
        self._let_in()

    def answered(self, seconds: float) -> None:
        """A request was answered, in so many seconds."""
        if self._pausing:
            self._pausing.popleft().set_result(None)
        self._num_answers += 1
        self._sum_seconds += seconds
        if self._num_answers < max(self.limit, _MIN_WINDOW_ANSWERS):
            return
        limit = self.limit
        if self._waiting and self._is_settled and not self._was_refused:
            # Little's law: so many in flight, for so long each.
            self._judge(limit * self._num_answers / max(self._sum_seconds, 1e-9))
        self._begin_window()
        # What is answered next was in part sent under the limit before.
        self._is_settled = self.limit == limit

    def refused(self, pause_seconds: float | None) -> None:
        """The server is busy; it asks for a pause if it says so."""
        if pause_seconds is not None:
            self._closed_until = max(self._closed_until, self._now() + pause_seconds)
        if not self._was_refused:  # those that were sent together are refused together
            self._begin_window()
            self._was_refused = True
            self._refused_at = self.limit
            self._num_windows_at_rest = 0
            self._set(int(self.limit * _BACK_OFF))

    async def pause(self, num_refusals: int) -> None:
        """Wait before a request that was refused for the `num_refusals`-th time (from 1) is sent again."""
        longest = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(num_refusals - 1, 10))
        # Spread out, so that requests that were refused together do not come back together.
        place = asyncio.get_running_loop().create_future()
        self._pausing.append(place)
        try:
            await asyncio.wait({place}, timeout=longest * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret
        finally:
            if not place.done():
                self._pausing.remove(place)

    async def until_open(self) -> None:
        """Wait for the end of the pause that the server asked for."""
        while self._closed_until > self._now():  # noqa: ASYNC110 -- it waits for a time, not for a condition
            await asyncio.sleep(self._closed_until - self._now())

    def _judge(self, rate: float) -> None:
        """A window was full: go higher, go back, or rest."""
        if self._num_windows_at_rest > 0:
            self._num_windows_at_rest -= 1
            self._best_rate = 0.0
        elif self._refused_at is not None:
            # The refusal tells where the end is: most of the way at once, then by steps too small to be measured.
            if self.limit >= self._refused_at - 2:
                self._num_windows_at_rest = _WINDOWS_AT_REST
            self._set(self.limit + max(1, (self._refused_at - self.limit) // 2))
        elif rate > self._best_rate * _WORTH:
            self._best_rate, self._best_limit = rate, self.limit
            self._set(int(self.limit * _CLIMB) + 1)
        else:
            self._set(self._best_limit)
            self._num_windows_at_rest = _WINDOWS_AT_REST

    def _set(self, limit: int) -> None:
        self.limit = max(self._least, min(limit, self._most))
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.in_flight < self.limit:
            self.in_flight += 1
            self._waiting.popleft().set_result(None)

    def _begin_window(self) -> None:
        self._num_answers = 0
        self._sum_seconds = 0.0
        self._was_refused = False

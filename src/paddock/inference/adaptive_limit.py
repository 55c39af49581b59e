"""How many requests a provider gets at once, and when: as many as it answers faster for, and of a server that refuses
(429, 503) hardly more than it answers.

The number in flight climbs while that raises the rate of answers, goes back to where it was best when it does not, and tries
again now and then. A server that refuses is sent one try for each answer, and some by the clock, so that tries exceed
answers a little: what it can take it gets, whether it counts requests a second, a minute or at once. While it answers
nothing, tries become rare, in proportion to how long that lasts. Nothing is sent as long as it asks for a pause; a server
that asks for one gets fewer at once from then on, step by step more. Of HTTP this knows nothing; `remote` tells what came
of each try.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

START = 32
"""Requests in flight at first."""

LEAST = 8
"""However often a server asks for a pause, so many go out after each."""

_CLIMB = 1.5
_WORTH = 1.05
"""A higher limit stays if answers come faster by so much."""

_BACK_OFF = 0.9
_WINDOWS_AT_REST = 20
"""Windows until a higher limit than the best one is tried again."""

_MIN_WINDOW_ANSWERS = 20

_EXCESS = 1.25
"""By the clock, so many tries go out for each answer of a server that refuses: what it has room for is found so fast."""

_MIN_RATE_SECONDS = 0.1
_FADE = 0.8
"""What is left of a rate of answers when the next one that was measured is lower: a closed window is no slow server."""

_LATENESS = 0.04
"""Of the time that a server answered nothing, at most this share passes until it is tried again."""

_FIRST_INTERVAL_SECONDS = 0.05
"""Between tries of a server that has never answered."""
_MAX_INTERVAL_SECONDS = 1.0
_SOON_SECONDS = 1e-6
"""A timer may come so much too early."""

_Place = asyncio.Future[None]


def _let_go(places: deque[_Place]) -> bool:
    """Let the first go that still waits; whether there was one."""
    while places:
        place = places.popleft()
        if not place.done():  # else it has left
            place.set_result(None)
            return True
    return False


class AdaptiveLimit:
    """`async with limit:` around a request and its repetitions; `turn` before each try; `answered` and `refused` tell what
    came of it. Lives on one event loop."""

    def __init__(self, most: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = min(START, most)
        self.in_flight = 0
        self._most = most
        self._least = min(LEAST, most)
        self._now = now
        self._waiting: deque[_Place] = deque()
        self._refused_at: int | None = None
        self._best_rate = 0.0
        self._best_limit = self.limit
        self._num_windows_at_rest = 0
        self._was_refused = False
        self._is_settled = True
        self._begin_window()
        self._pace = _Pace(now)

    async def __aenter__(self) -> None:
        if self.in_flight < self.limit:
            self.in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place  # whoever lets this one in has counted it
        except asyncio.CancelledError:
            if not place.cancelled():
                await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.in_flight -= 1
        self._let_in()

    @property
    def answered_at(self) -> float:
        """When the last answer came, by the clock; before the first, when this was made."""
        return self._pace.answered_at

    @property
    def is_open(self) -> bool:
        """Whether a try may be sent at once."""
        return self._pace.is_open

    async def turn(self) -> None:
        """Wait until a try may be sent."""
        await self._pace.turn()

    def answered(self, seconds: float) -> None:
        """A try was answered, in so many seconds."""
        self._pace.answered(self.limit)
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
        self._pace.refused(pause_seconds)
        if not self._was_refused:  # those that were sent together are refused together
            self._begin_window()
            self._was_refused = True
            if pause_seconds is not None:
                self._refused_at = self.limit
                self._num_windows_at_rest = 0
                self._set(int(self.limit * _BACK_OFF))

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
        while self.in_flight < self.limit and _let_go(self._waiting):
            self.in_flight += 1

    def _begin_window(self) -> None:
        self._num_answers = 0
        self._sum_seconds = 0.0
        self._was_refused = False


class _Pace:
    """When tries go out to a server that refuses: at once while it does not."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._turns: deque[_Place] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed_until = 0.0
        self._is_refusing = False
        self._num_allowed = 0
        """Tries that answers have made room for and that nobody has taken yet."""
        self._next_at = 0.0
        """When the next try goes out by the clock."""
        self._rate = 0.0
        """Answers a second, of late."""
        self._num_answers = 0
        self._counted_from = self.answered_at = now()
        self._num_since_refusal = 0

    async def turn(self) -> None:
        """See `AdaptiveLimit.turn`."""
        if self.is_open:
            return
        place = asyncio.get_running_loop().create_future()
        self._turns.append(place)
        self._release()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # its turn is somebody else's
                self._num_allowed += 1
                self._release()
            raise

    @property
    def is_open(self) -> bool:
        """See `AdaptiveLimit.is_open`."""
        return not self._turns and not self._is_refusing and self._closed_until <= self._now()

    def answered(self, limit: int) -> None:
        """A try was answered, of at most `limit` at once."""
        now = self.answered_at = self._now()
        self._num_answers += 1
        if self._num_answers >= _MIN_WINDOW_ANSWERS and now > self._counted_from + _MIN_RATE_SECONDS:
            self._rate = max(self._num_answers / (now - self._counted_from), _FADE * self._rate)
            self._num_answers, self._counted_from = 0, now
        if not self._is_refusing:
            return
        self._num_since_refusal += 1
        # Those that were in flight at a refusal say nothing of what came after it.
        self._is_refusing = self._num_since_refusal < limit + _MIN_WINDOW_ANSWERS
        self._num_allowed = min(self._num_allowed + 1, limit)
        self._release()

    def refused(self, pause_seconds: float | None) -> None:
        """See `AdaptiveLimit.refused`."""
        if pause_seconds is not None:
            self._closed_until = max(self._closed_until, self._now() + pause_seconds)
            return
        if not self._is_refusing:
            self._is_refusing, self._num_allowed, self._next_at = True, 0, math.inf
        self._num_since_refusal = 0

    def _release(self) -> None:
        """Let those go whose turn it is, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._turns:
            wait = self._wait_seconds()
            if wait > _SOON_SECONDS:
                self._timer = asyncio.get_running_loop().call_later(wait, self._release)
                return
            self._num_allowed = max(0, self._num_allowed - 1)
            _let_go(self._turns)

    def _wait_seconds(self) -> float:
        """Until the next try may go; if it may now, it is counted."""
        now = self._now()
        if self._closed_until > now or not self._is_refusing:
            return self._closed_until - now
        steady = 1.0 / (_EXCESS * self._rate) if self._rate else _FIRST_INTERVAL_SECONDS
        late = min(_LATENESS * (now - self.answered_at), _MAX_INTERVAL_SECONDS)
        interval = max(steady, late)
        self._next_at = min(self._next_at, now + interval)
        if self._num_allowed == 0 and self._next_at > now + _SOON_SECONDS:
            return self._next_at - now
        self._next_at = max(self._next_at, now - steady) + interval
        return 0.0

"""The limit against model servers of several kinds, in simulated time: seconds pass as soon as everybody waits for them."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from paddock.inference.adaptive_limit import LEAST, START, AdaptiveLimit
from storms import Bucket, Places, Refused, Storm, Window


class _Selector(selectors.SelectSelector):
    """Never waits: the time until the next timer is added to the clock instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class SimulatedTime(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def simulate(scenario: Callable[[Callable[[], float]], Awaitable[Any]]) -> Any:
    """Run `scenario(now)` on a clock of its own."""
    loop = SimulatedTime()
    try:
        return loop.run_until_complete(scenario(loop.time))
    finally:
        loop.close()


Server = Callable[[], Awaitable[None]]


async def evaluate(limit: AdaptiveLimit, server: Server, num_requests: int) -> list[int]:
    """Send all requests, each until it is answered; returns the limit over time, one figure an answer."""
    limits: list[int] = []

    async def request() -> None:
        async with limit:
            while True:
                await limit.turn()
                sent_at = asyncio.get_running_loop().time()
                try:
                    await server()
                except Refused as refusal:
                    await asyncio.sleep(0.001)
                    limit.refused(refusal.pause_seconds)
                else:
                    limit.answered(asyncio.get_running_loop().time() - sent_at)
                    limits.append(limit.limit)
                    return

    await asyncio.gather(*(request() for _ in range(num_requests)))
    return limits


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(3)


def test_a_server_that_never_tires_gets_all_that_is_allowed() -> None:
    async def scenario(now: Callable[[], float]) -> list[int]:
        async def server() -> None:
            await asyncio.sleep(0.1)

        return await evaluate(AdaptiveLimit(512, now=now), server, 20_000)

    limits = simulate(scenario)
    assert limits[0] == START
    assert max(limits) == 512
    assert limits[len(limits) // 2 :].count(512) > 0.9 * len(limits) / 2


def test_a_server_that_gets_no_faster_is_not_flooded() -> None:
    """It works on 8 requests at a time, and queues the rest itself."""

    async def scenario(now: Callable[[], float]) -> list[int]:
        workers = asyncio.Semaphore(8)

        async def server() -> None:
            async with workers:
                await asyncio.sleep(0.05)

        return await evaluate(AdaptiveLimit(1024, now=now), server, 8000)

    limits = simulate(scenario)
    assert max(limits) < 3 * START
    assert sorted(limits)[len(limits) // 2] == START


STORMS: dict[str, tuple[Callable[[], Storm], int, float]] = {
    # What admits, how many requests there are, and seconds that one takes (give or take half).
    "rate": (lambda: Bucket(200, 20), 3000, 0.02),
    "rate, slow answers": (lambda: Bucket(200, 20), 3000, 0.2),
    "fast rate": (lambda: Bucket(500, 50), 3000, 0.02),
    "low rate": (lambda: Bucket(20, 2), 600, 0.02),
    "rate, asks for pauses": (lambda: Bucket(200, 240, 1.0), 3000, 0.02),
    "rate, asks for pauses, slow answers": (lambda: Bucket(200, 240, 1.0), 3000, 0.2),
    "window": (lambda: Window(200, 1.0, says_when=False), 3000, 0.02),
    "window, slow answers": (lambda: Window(200, 1.0, says_when=False), 3000, 0.2),
    "window, says when": (lambda: Window(1000, 5.0, says_when=True), 3000, 0.02),
    "away every third second": (lambda: Bucket(500, 50, None, 2.0, 3.0), 3000, 0.02),
    "away half of every minute": (lambda: Bucket(200, 20, None, 30.0, 60.0), 8000, 0.02),
    "few places": (lambda: Places(6), 1000, 0.1),
    "places": (lambda: Places(50), 6000, 0.1),
}


@pytest.mark.parametrize("kind", STORMS)
def test_what_a_server_allows_is_what_it_admits_to_one_who_always_asks(kind: str) -> None:
    make_storm, _, seconds = STORMS[kind]
    storm, leaving = make_storm(), deque[float]()
    for now in (step / 1000 for step in range(1, 60_000)):
        while leaving and leaving[0] <= now:
            storm.leave(leaving.popleft())
        with suppress(Refused):
            while True:
                storm.admit(now)
                leaving.append(now + seconds)
    assert 0.98 < storm.used(60) / storm.allowed(0, 60) <= 1


@pytest.mark.parametrize("kind", STORMS)
def test_a_server_that_refuses_gives_nearly_all_that_it_allows(kind: str) -> None:
    make_storm, num_requests, seconds = STORMS[kind]

    async def scenario(now: Callable[[], float]) -> tuple[float, int]:
        storm, num_refused, share = make_storm(), 0, 0.0

        async def server() -> None:
            nonlocal num_refused, share
            try:
                storm.admit(now())
            except Refused:
                num_refused += 1
                raise
            share = storm.used(now()) / storm.allowed(0, now()) if now() else 0.0
            await asyncio.sleep(seconds * random.uniform(0.5, 1.5))
            storm.leave(now())

        await evaluate(AdaptiveLimit(1024, now=now), server, num_requests)
        return share, num_refused

    share, num_refused = simulate(scenario)
    assert share > 0.95
    assert num_refused < 1.6 * num_requests


def test_after_a_storm_the_answers_come_back_at_once() -> None:
    """A second of refusals in every three."""

    async def scenario(now: Callable[[], float]) -> float:
        async def server() -> None:
            if now() % 3 >= 2:
                raise Refused
            await asyncio.sleep(0.02)

        num_requests = 30_000
        await evaluate(AdaptiveLimit(64, now=now), server, num_requests)
        return num_requests / (64 / 0.02 * 2 / 3) / now()

    assert simulate(scenario) > 0.95


def test_a_server_that_stays_away_is_tried_ever_more_rarely() -> None:
    async def scenario(now: Callable[[], float]) -> list[float]:
        sent: list[float] = []

        async def server() -> None:
            sent.append(now())
            if 1 < now() < 121:
                raise Refused
            await asyncio.sleep(0.02)

        await evaluate(AdaptiveLimit(64, now=now), server, 10_000)
        return sent

    sent = [at - 1 for at in simulate(scenario) if at > 1]
    assert sum(at < 1 for at in sent) < 250
    assert sum(1 < at < 10 for at in sent) < 100
    assert 90 < sum(20 < at < 120 for at in sent) < 130
    assert min(at for at in sent if at >= 120) < 121.1


def test_nothing_is_sent_while_the_server_asks_for_a_pause() -> None:
    async def scenario(now: Callable[[], float]) -> list[float]:
        sent: list[float] = []

        async def server() -> None:
            sent.append(now())
            if now() < 5:
                raise Refused(5 - now())

        await evaluate(AdaptiveLimit(64, now=now), server, 100)
        return sent

    sent = simulate(scenario)
    assert sum(at < 5 for at in sent) <= START
    assert not [at for at in sent if 0 < at < 5]


def test_however_busy_the_server_is_some_requests_try() -> None:
    async def scenario(now: Callable[[], float]) -> int:
        limit = AdaptiveLimit(1024, now=now)
        for _ in range(100):
            limit.refused(0.1)
            limit.answered(0.1)
            limit._begin_window()
        return limit.limit

    assert simulate(scenario) == LEAST
    assert AdaptiveLimit(2).limit == 2


def test_a_place_is_not_lost_with_those_who_leave() -> None:
    async def scenario(now: Callable[[], float]) -> int:
        limit = AdaptiveLimit(1, now=now)

        async def hold(seconds: float) -> None:
            async with limit:
                await asyncio.sleep(seconds)

        first = asyncio.create_task(hold(1))
        await asyncio.sleep(0)
        leaving, staying = asyncio.create_task(hold(1)), asyncio.create_task(hold(1))
        await first
        leaving.cancel()  # it has just been let in
        await asyncio.wait_for(staying, 5)
        return limit.in_flight

    assert simulate(scenario) == 0


def test_a_turn_is_not_lost_with_those_who_leave() -> None:
    async def scenario(now: Callable[[], float]) -> float:
        limit = AdaptiveLimit(8, now=now)
        limit.refused(None)
        leaving, staying = asyncio.create_task(limit.turn()), asyncio.create_task(limit.turn())
        await asyncio.sleep(0)
        limit.answered(0.1)
        leaving.cancel()  # its turn has just come
        await asyncio.sleep(0)
        waiting, last = asyncio.create_task(limit.turn()), asyncio.create_task(limit.turn())
        await asyncio.sleep(0)
        waiting.cancel()  # its turn has not come
        limit.answered(0.1)
        await asyncio.gather(staying, last)
        return now()

    assert simulate(scenario) == 0

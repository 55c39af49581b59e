"""The limit against model servers of several kinds, in simulated time: seconds pass as soon as everybody waits for them."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paddock.inference.adaptive_limit import LEAST, START, AdaptiveLimit


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


class Refusal(Exception):
    """429, with the pause that the server asks for, or None."""

    def __init__(self, pause_seconds: float | None = None) -> None:
        self.pause_seconds = pause_seconds


Server = Callable[[], Awaitable[None]]


async def evaluate(limit: AdaptiveLimit, server: Server, num_requests: int) -> list[int]:
    """Send all requests, each until it is answered; returns the limit over time, one figure an answer."""
    limits: list[int] = []

    async def request() -> None:
        async with limit:
            for num_refusals in range(1, 10_000):
                await limit.until_open()
                sent_at = asyncio.get_running_loop().time()
                try:
                    await server()
                except Refusal as refusal:
                    limit.refused(refusal.pause_seconds)
                    await limit.pause(num_refusals)
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


@pytest.mark.parametrize("capacity", [6, 50, 120])
def test_a_server_that_refuses_what_is_over_its_capacity_is_kept_full(capacity: int) -> None:
    async def scenario(now: Callable[[], float]) -> tuple[float, int]:
        busy = num_refused = 0

        async def server() -> None:
            nonlocal busy, num_refused
            if busy >= capacity:
                num_refused += 1
                raise Refusal
            busy += 1
            await asyncio.sleep(random.uniform(0.05, 0.15))
            busy -= 1

        num_requests = 150 * capacity
        await evaluate(AdaptiveLimit(1024, now=now), server, num_requests)
        return num_requests * 0.1 / capacity / now(), num_refused

    share, num_refused = simulate(scenario)
    assert share > 0.93
    assert num_refused < 300 * capacity


@pytest.mark.parametrize(("rate", "pause_seconds"), [(200, None), (500, None), (200, 1.0), (20, None)])
def test_a_server_that_refuses_what_is_over_its_rate_gives_nearly_all_of_it(
    rate: float, pause_seconds: float | None
) -> None:
    async def scenario(now: Callable[[], float]) -> float:
        burst = rate * (1.2 if pause_seconds else 0.2)
        tokens, refilled_at = 0.0, now()

        async def server() -> None:
            nonlocal tokens, refilled_at
            tokens, refilled_at = min(burst, tokens + (now() - refilled_at) * rate), now()
            if tokens < 1:
                raise Refusal(pause_seconds)
            tokens -= 1
            await asyncio.sleep(0.02)

        num_requests = int(30 * rate)
        await evaluate(AdaptiveLimit(1024, now=now), server, num_requests)
        return num_requests / rate / now()

    assert simulate(scenario) > 0.92  # of so few requests the last one's pause is a share


def test_after_a_storm_the_answers_come_back_at_once() -> None:
    """A second of refusals in every three."""

    async def scenario(now: Callable[[], float]) -> float:
        async def server() -> None:
            if now() % 3 >= 2:
                raise Refusal
            await asyncio.sleep(0.02)

        num_requests = 30_000
        await evaluate(AdaptiveLimit(64, now=now), server, num_requests)
        return num_requests / (64 / 0.02 * 2 / 3) / now()

    assert simulate(scenario) > 0.8


def test_nothing_is_sent_while_the_server_asks_for_a_pause() -> None:
    async def scenario(now: Callable[[], float]) -> list[float]:
        sent: list[float] = []

        async def server() -> None:
            sent.append(now())
            if now() < 5:
                raise Refusal(5 - now())

        await evaluate(AdaptiveLimit(64, now=now), server, 100)
        return sent

    sent = simulate(scenario)
    assert sum(at < 5 for at in sent) <= START
    assert not [at for at in sent if 0 < at < 5]


def test_however_busy_the_server_is_some_requests_try() -> None:
    async def scenario(now: Callable[[], float]) -> int:
        limit = AdaptiveLimit(1024, now=now)
        for _ in range(100):
            limit.refused(None)
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

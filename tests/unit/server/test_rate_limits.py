"""Counting what each client asks, in memory and in Redis."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage

from paddock.errors import TooManyRequestsError
from paddock.server import rate_limits
from paddock.server.rate_limits import RateLimits
from paddock.settings import RateLimit


@pytest.fixture
def redis_url() -> str:
    url = os.environ.get("PADDOCK_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
    host, _, port = url.partition("//")[2].partition("/")[0].rpartition("@")[2].partition(":")
    try:
        socket.create_connection((host, int(port or 6379)), 2).close()
    except OSError:
        pytest.fail(
            f"No Redis answers at {host}:{port}. Rate limits of several servers are tested on a real one: "
            "start it (`redis-server`), or name another with PADDOCK_TEST_REDIS_URL."
        )
    return url


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def _spend(limits: RateLimits, client: str) -> tuple[bool, dict[str, str]]:
    headers: dict[str, str] = {}
    try:
        await limits.spend(client, headers)
    except TooManyRequestsError as error:
        return error.limit != "rate_limit" or not 1 <= error.retry_after_seconds <= 60, headers
    return True, headers


def test_each_client_has_its_own_window() -> None:
    async def scenario() -> None:
        limits = RateLimits(RateLimit(requests_per_minute=3))
        answers = [await _spend(limits, "a") for _ in range(5)]
        assert [ok for ok, _ in answers] == [True, True, True, False, False]
        assert [headers["RateLimit"].split(";")[1] for _, headers in answers] == ["r=2", "r=1", "r=0", "r=0", "r=0"]
        assert answers[0][1] == {"RateLimit-Policy": '"default";q=3;w=60', "RateLimit": '"default";r=2;t=60'}
        assert (await _spend(limits, "b"))[0]

    run(scenario())


def test_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_WINDOW_SECONDS", 1)

    async def scenario() -> None:
        limits = RateLimits(RateLimit(requests_per_minute=1))
        assert [(await _spend(limits, "a"))[0] for _ in range(2)] == [True, False]
        await asyncio.sleep(1.1)
        assert (await _spend(limits, "a"))[0]

    run(scenario())


def test_clients_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_WINDOW_SECONDS", 0.2)

    async def scenario() -> None:
        limits = RateLimits(RateLimit(requests_per_minute=1))
        for number in range(500):
            await _spend(limits, f"client {number}")
        await asyncio.sleep(0.4)
        await _spend(limits, "one more")
        await asyncio.sleep(0.05)
        memory = limits._memory
        assert isinstance(memory, MemoryStorage)
        assert max(len(memory.storage), len(memory.expirations), len(memory.locks)) < 10

    run(scenario())


def test_servers_on_one_redis_count_together(redis_url: str) -> None:
    client = uuid.uuid4().hex

    async def scenario() -> None:
        servers = [RateLimits(RateLimit(requests_per_minute=4, redis_url=redis_url)) for _ in range(2)]
        answers = [await _spend(servers[number % 2], client) for number in range(6)]
        assert [ok for ok, _ in answers] == [True, True, True, True, False, False]
        assert answers[0][1]["RateLimit"] in ('"default";r=3;t=60', '"default";r=3;t=61')
        for server in servers:
            await server.close()

    run(scenario())


def test_without_its_redis_a_server_counts_by_itself_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        limits = RateLimits(RateLimit(requests_per_minute=2, redis_url="redis://:secret@127.0.0.1:9/0"))
        assert [(await _spend(limits, "a"))[0] for _ in range(4)] == [True, True, False, False]
        await limits.close()

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert len(caplog.records) == 1
    assert "counts by itself" in caplog.text
    assert "secret" not in caplog.text


def test_a_redis_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_REDIS_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        async def scenario() -> None:
            limits = RateLimits(RateLimit(requests_per_minute=5, redis_url=f"redis://127.0.0.1:{port}"))
            async with asyncio.timeout(5):
                assert [(await _spend(limits, "a"))[0] for _ in range(6)] == [True] * 5 + [False]
            await limits.close()

        run(scenario())

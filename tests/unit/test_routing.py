"""Work that is taken back when its client leaves."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from starlette.requests import Request

from paddock import routing
from paddock.errors import ClientLeftError, InvalidRequestError
from paddock.routing import while_connected


def request(receive: Any) -> Request:
    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def stays() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"type": "http.disconnect"}


def test_the_result_and_the_error_of_work_come_through() -> None:
    async def answer() -> int:
        return 7

    async def refuse() -> int:
        raise InvalidRequestError("no")

    assert asyncio.run(while_connected(request(stays), answer())) == 7
    with pytest.raises(InvalidRequestError, match="no"):
        asyncio.run(while_connected(request(stays), refuse()))


def test_work_is_cancelled_when_the_client_leaves() -> None:
    ends: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    with pytest.raises(ClientLeftError):
        asyncio.run(while_connected(request(leaves), endless()))
    assert ends == ["cancelled"]


def test_work_is_cancelled_with_the_request() -> None:
    ends: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def cancelled() -> None:
        task = asyncio.create_task(while_connected(request(stays), endless()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert ends == ["cancelled"]


def test_long_bodies_are_parsed_one_at_a_time_beside_the_event_loop() -> None:
    at_once, most, threads = 0, 0, set()

    def parse(body: bytes, extra: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threads.add(threading.current_thread())
        time.sleep(0.02)
        at_once -= 1
        return len(body) + extra

    async def ask(num_bytes: int) -> list[int]:
        return await asyncio.gather(*(routing.parsed(b"x" * num_bytes, parse, 1) for _ in range(4)))

    assert asyncio.run(ask(10)) == [11] * 4
    assert threads == {threading.main_thread()}
    assert asyncio.run(ask(100_000)) == [100_001] * 4
    assert threading.main_thread() in threads
    assert len(threads) > 1
    assert most == 1

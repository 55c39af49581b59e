"""One HTTP session of an engine, made when it is first needed, with a bound on the requests that are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp


@dataclass(frozen=True)
class _Open:
    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    turns: asyncio.Semaphore


class BoundedSession:
    """An aiohttp session belongs to one event loop. The server has one loop for life; a job's process may run several
    in turn, and closes the session at the end of each."""

    def __init__(self, make: Callable[[], aiohttp.ClientSession], *, max_concurrency: int) -> None:
        self._make = make
        self._max_concurrency = max_concurrency
        self._open: _Open | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Wait for a turn and hold it. The wait is ours, so it counts towards no timeout of the other side."""
        loop = asyncio.get_running_loop()
        if self._open is None or self._open.loop is not loop:
            self._open = _Open(loop, self._make(), asyncio.Semaphore(self._max_concurrency))
        opened = self._open
        async with opened.turns:
            yield opened.session

    async def close(self) -> None:
        if self._open is not None:
            await self._open.session.close()
            self._open = None

"""One HTTP session of an engine, made when it is first needed, with a bound on the requests that are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

Limit = TypeVar("Limit", bound=AbstractAsyncContextManager[None])


@dataclass(frozen=True)
class OpenSession(Generic[Limit]):
    """A session, and what must be entered around each of its requests: waiting there is ours, so it counts towards no
    timeout of the other side."""

    session: aiohttp.ClientSession
    limit: Limit
    loop: asyncio.AbstractEventLoop


class BoundedSession(Generic[Limit]):
    """An aiohttp session belongs to one event loop. The server has one loop for life; a job's process may run several
    in turn, and closes the session at the end of each."""

    def __init__(self, make_session: Callable[[], aiohttp.ClientSession], make_limit: Callable[[], Limit]) -> None:
        self._make_session = make_session
        self._make_limit = make_limit
        self._open: OpenSession[Limit] | None = None

    def open(self) -> OpenSession[Limit]:
        """The session of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._open is None or self._open.loop is not loop:
            self._open = OpenSession(self._make_session(), self._make_limit(), loop)
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.session.close()
            self._open = None

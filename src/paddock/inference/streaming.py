"""Answers as server-sent events while they are made, in OpenAI's framing.

What goes wrong before the first piece is an ordinary error; afterwards it is an event of its own, which OpenAI's clients
raise. A client that leaves takes its requests back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

from paddock import wire
from paddock.errors import PaddockError
from paddock.inference.engine import Generation, OnPiece, Piece


class Call(Protocol):
    """A request to an engine that is yet to be made."""

    def __call__(self, *, on_piece: OnPiece | None) -> Coroutine[Any, Any, Generation]: ...


Progress = tuple[int, Piece | Generation]
"""What came of which call: pieces, and its whole answer last."""

_MAX_WAITING = 16
"""Pieces that a slow reader may let wait here; then the engine waits with more."""


async def events(
    beginning: Progress,
    progress: AsyncGenerator[Progress],
    chunks: Callable[[AsyncIterator[Progress]], AsyncIterator[Any]],
    *,
    wants_end: bool,
) -> AsyncIterator[str]:
    """The events of a stream that has begun: `chunks` makes them of what comes."""

    async def all_progress() -> AsyncIterator[Progress]:
        yield beginning
        async for made in progress:
            yield made

    try:
        async for chunk in chunks(all_progress()):
            yield _event(chunk)
    except PaddockError as error:
        yield _event({"error": {"message": error.detail, "type": error.title, "code": error.status}})
        return
    finally:
        await progress.aclose()
    if wants_end:
        yield "data: [DONE]\n\n"


def _event(content: Any) -> str:
    return f"data: {wire.to_json(content)}\n\n"


async def together(calls: Sequence[Call]) -> AsyncGenerator[Progress]:
    """What comes of all calls, in the order in which it comes. The first failure ends it; an early end cancels them."""
    made: asyncio.Queue[tuple[int, Piece | Generation | BaseException]] = asyncio.Queue(_MAX_WAITING)

    async def run(index: int, call: Call) -> None:
        try:
            await made.put((index, await call(on_piece=lambda piece: made.put((index, piece)))))
        except Exception as error:  # raised where the answers are read
            await made.put((index, error))

    tasks = [asyncio.create_task(run(index, call)) for index, call in enumerate(calls)]
    try:
        num_running = len(tasks)
        while num_running:
            index, what = await made.get()
            if isinstance(what, BaseException):
                raise what
            num_running -= isinstance(what, Generation)
            yield index, what
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

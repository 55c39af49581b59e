"""The lines of an answer's body as they come, whole however the network cut them, and bounded in length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

MAX_LINE_BYTES = 2**26
"""The longest line that is kept: the last one of a long answer, with log-probabilities, has some megabytes."""


class LineTooLongError(Exception):
    """A line is longer than anything that makes sense."""


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Each line without its end. Raises `LineTooLongError`, and what aiohttp raises when the body breaks off."""
    parts: list[bytes] = []
    num_bytes = 0
    async for chunk in response.content.iter_any():
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            yield b"".join([*parts, end]).rstrip(b"\r")
            parts, num_bytes = [], 0
        parts.append(rest)
        num_bytes += len(rest)
        if num_bytes > MAX_LINE_BYTES:
            raise LineTooLongError
    if num_bytes:
        yield b"".join(parts)

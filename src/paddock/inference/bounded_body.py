"""An answer's body, whole or line by line, and bounded in length: what goes beyond is not read.

Lines come as soon as they are whole, however the network cut them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

MAX_LINE_BYTES = 2**26
"""The longest line that is kept: the last one of a long answer, with log-probabilities, has some megabytes."""


class TooLongError(Exception):
    """A body, or a line of it, is longer than anything that makes sense."""

    def __init__(self, unit: str, max_bytes: float) -> None:
        super().__init__(unit, max_bytes)
        self.unit = unit
        self.max_bytes = max_bytes


async def whole(response: aiohttp.ClientResponse, max_bytes: float) -> bytes:
    """The body. Raises `TooLongError`, and what aiohttp raises when the body breaks off."""
    return b"".join([chunk async for chunk in _chunks(response, max_bytes)])


async def lines(
    response: aiohttp.ClientResponse, max_line_bytes: float = MAX_LINE_BYTES, max_bytes: float = math.inf
) -> AsyncIterator[bytes]:
    """Each line without its end. Raises `TooLongError`, and what aiohttp raises when the body breaks off."""
    parts: list[bytes] = []
    num_bytes = 0
    async for chunk in _chunks(response, max_bytes):
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            yield b"".join([*parts, end]).rstrip(b"\r")
            parts, num_bytes = [], 0
        parts.append(rest)
        num_bytes += len(rest)
        if num_bytes > max_line_bytes:
            raise TooLongError("line", max_line_bytes)
    if num_bytes:
        yield b"".join(parts)


async def _chunks(response: aiohttp.ClientResponse, max_bytes: float) -> AsyncIterator[bytes]:
    num_bytes = 0
    async for chunk in response.content.iter_any():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise TooLongError("answer", max_bytes)
        yield chunk

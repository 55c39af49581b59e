"""Bodies and their lines, however the network cuts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from paddock.inference.bounded_body import TooLongError, lines, whole


class Body:
    """The part of an aiohttp response that is read."""

    def __init__(self, *chunks: bytes) -> None:
        self.content = self
        self._chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def read(*chunks: bytes, **limits: int) -> list[bytes]:
    async def all_lines() -> list[bytes]:
        body: Any = Body(*chunks)
        return [line async for line in lines(body, **limits)]

    return asyncio.run(all_lines())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_whole(size: int) -> None:
    body = b"one\r\n\ntwo three\n\xe2\x82\xac\nfour"
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(*chunks) == [b"one", b"", b"two three", "€".encode(), b"four"]


def test_nothing_is_no_line() -> None:
    assert read() == []
    assert read(b"a\n") == [b"a"]


def test_a_line_without_end_is_given_up() -> None:
    assert read(b"123456789\n123456789\n", max_line_bytes=10) == [b"123456789"] * 2
    with pytest.raises(TooLongError):
        read(b"12345", b"67890", b"1", max_line_bytes=10)


def test_a_body_without_end_is_given_up() -> None:
    body: Any = Body(b"12345", b"67890")
    assert asyncio.run(whole(body, max_bytes=10)) == b"1234567890"
    with pytest.raises(TooLongError):
        asyncio.run(whole(body, max_bytes=9))
    with pytest.raises(TooLongError):
        read(b"1234\n", b"5678\n", max_bytes=9)

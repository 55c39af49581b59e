"""Lines of a body, however the network cuts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from paddock.inference import line_stream
from paddock.inference.line_stream import LineTooLongError, lines


class Body:
    """The part of an aiohttp response that is read."""

    def __init__(self, *chunks: bytes) -> None:
        self.content = self
        self._chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def read(*chunks: bytes) -> list[bytes]:
    async def all_lines() -> list[bytes]:
        body: Any = Body(*chunks)
        return [line async for line in lines(body)]

    return asyncio.run(all_lines())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_whole(size: int) -> None:
    body = b"one\r\n\ntwo three\n\xe2\x82\xac\nfour"
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(*chunks) == [b"one", b"", b"two three", "€".encode(), b"four"]


def test_nothing_is_no_line() -> None:
    assert read() == []
    assert read(b"a\n") == [b"a"]


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_stream, "MAX_LINE_BYTES", 10)
    assert read(b"123456789\n123456789\n") == [b"123456789"] * 2
    with pytest.raises(LineTooLongError):
        read(b"12345", b"67890", b"1")

"""Finding files for many requests at once. The process as a whole is what `test_local` talks to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from paddock.errors import InvalidRequestError
from paddock.inference.engine_messages import LocalModel
from paddock.inference.engine_process import _Finder


def test_requests_share_one_search_and_none_can_stop_it(tiny_llama: Path) -> None:
    async def search() -> None:
        finder, model = _Finder(), LocalModel("tiny", str(tiny_llama))
        leaving, first, second = (asyncio.create_task(finder.find(model)) for _ in range(3))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await first is await second
        assert await finder.find(model) is not await first  # a finished search is not kept: files change
        with pytest.raises(asyncio.CancelledError):
            await leaving

    asyncio.run(search())


def test_a_failed_search_is_made_again(tmp_path: Path) -> None:
    async def search() -> None:
        finder, model = _Finder(), LocalModel("gone", str(tmp_path))
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="gone"):
                await finder.find(model)

    asyncio.run(search())

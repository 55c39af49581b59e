"""Log-likelihoods and answers held against those of lm-evaluation-harness, which `suites/record.py` recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.egress import Egress
from paddock.inference.engine import Likelihoods, Model
from paddock.inference.engine_host import EngineHost
from paddock.inference.local import LocalEngine
from paddock.quickstart import walkthrough
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

FOLDER = Path(__file__).parent / "suites"
RECORDED: dict[str, Any] = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
MODEL = Model("small", "local", str(Path(walkthrough.__file__).parent / "base_model"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDir]:
    """An engine process on a data directory."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    folder = DataDir(settings.data_dir)
    folder.create()
    host = EngineHost(settings, folder)
    host.start()
    yield folder
    host.stop()


@pytest.mark.parametrize("task", ["dates_choice", "words_choice"])
def test_log_likelihoods(data_dir: DataDir, task: str) -> None:
    rows = RECORDED[task]["rows"]

    async def ask() -> list[Likelihoods]:
        engine = LocalEngine(data_dir.engine_socket, data_dir.checkpoints, Egress(()))
        try:
            calls = [engine.log_likelihoods(MODEL, row["context"], row["continuations"]) for row in rows]
            return await asyncio.gather(*calls)
        finally:
            await engine.close()

    found = asyncio.run(ask())
    assert [each.log_likelihoods for each in found] == [pytest.approx(row["log_likelihoods"], abs=1e-4) for row in rows]
    assert len(rows) >= 8

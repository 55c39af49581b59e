"""Fixtures shared by all tests: settings in a temporary folder, a real database, small real models."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts tests in the background has them ignore Ctrl-C, and so would every process that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests load models that they make; nothing is ever fetched from a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Nor does a command of theirs speak to the server that whoever runs them has configured.
os.environ["PADDOCK_CLIENT_FILE"] = "/nonexistent/client.yaml"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from contract import watch
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database

watch.install()


@pytest.fixture(autouse=True)
def contract_violations() -> Iterator[list[str]]:
    """Every answer that a test gets is held to the contract; the test fails if one breaks it."""
    watch.violations.clear()
    yield watch.violations
    assert watch.violations == []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=0)


@pytest.fixture
def data_dir(settings: Settings) -> DataDir:
    data_dir = DataDir(settings.data_dir)
    data_dir.create()
    return data_dir


@pytest.fixture
def database(data_dir: DataDir) -> Iterator[Database]:
    database = Database("sqlite", sqlite_file=data_dir.database_file)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some ten thousand weights with a byte-level tokenizer, as a Hugging Face folder."""
    from tiny_models import make_llama

    return make_llama(tmp_path_factory.mktemp("tiny-llama"))

"""Fixtures shared by all tests: settings in a temporary folder, a real database, small real models."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import hypothesis
import pytest

import databases

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

# Tests assert behaviour, not speed: on a busy machine anything may be slow.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


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


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str | None]:
    with databases.migrated_postgres() if databases.POSTGRES_URL else nullcontext() as url:
        yield url


@pytest.fixture(params=databases.KINDS)
def database_url(request: pytest.FixtureRequest, postgres_template: str | None) -> Iterator[str]:
    """The setting `database_url` of a server that has a database of its own, with all tables: each kind in turn."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    with databases.postgres_database(template=postgres_template) as url:
        yield url


@pytest.fixture
def open_database(database_url: str, data_dir: DataDir) -> Iterator[Callable[[], Database]]:
    """Opens the test's database, as each process of a server does."""
    opened = []

    def open_one() -> Database:
        database = Database(database_url, sqlite_file=data_dir.database_file)
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture(params=databases.KINDS)
def open_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Opens a database without tables."""
    with ExitStack() as stack:

        def open_one() -> Database:
            is_sqlite = request.param == "sqlite"
            url = "sqlite" if is_sqlite else stack.enter_context(databases.postgres_database())
            database = Database(url, sqlite_file=tmp_path / f"{uuid.uuid4().hex}.db")
            stack.callback(database.close)
            return database

        yield open_one


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    database = open_database()
    database.migrate()
    return database


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some ten thousand weights with a byte-level tokenizer, as a Hugging Face folder."""
    from tiny_models import make_llama

    return make_llama(tmp_path_factory.mktemp("tiny-llama"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not databases.POSTGRES_URL:
        terminalreporter.write_line(
            "NOT TESTED ON POSTGRESQL: set PADDOCK_TEST_POSTGRES_URL=postgresql://user@host/database to a server "
            "where databases may be created.",
            yellow=True,
            bold=True,
        )

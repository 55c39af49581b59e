from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from paddock.datasets import routes
from paddock.datasets.store import DatasetStore
from paddock.jobs.store import JobStore
from paddock.server import answers
from paddock.server.frame import RequestFrame
from paddock.settings import Settings
from paddock.storage.database import Database


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def datasets(database: Database, jobs: JobStore) -> DatasetStore:
    return DatasetStore(database, jobs)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that `file:` sources may read."""
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def app(datasets: DatasetStore, root: Path) -> FastAPI:
    settings = Settings(dataset_roots=(root,))
    app = FastAPI(redirect_slashes=False)
    app.state.datasets = datasets
    app.state.settings = settings
    app.include_router(routes.router)
    app.add_middleware(RequestFrame, settings=settings)
    answers.install(app)
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost") as client:
        yield client

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import evaluation_world
from evaluation_world import World
from model_server import Answer, ModelServer
from paddock.settings import Settings
from paddock.storage.database import Database


@pytest.fixture
def make_world(settings: Settings, database: Database) -> Iterator[Callable[..., World]]:
    """Make a world whose model server answers with `answer`. No job waits there that was put off."""
    hasty = settings.model_copy(update={"job_retry_seconds": 0.0})
    with ExitStack() as stack:

        def make(answer: Answer, *, delay_seconds: float = 0.0, max_concurrency: int = 4) -> World:
            server = stack.enter_context(ModelServer(answer, delay_seconds=delay_seconds))
            return evaluation_world.make_world(hasty, database, server, max_concurrency=max_concurrency)

        yield make

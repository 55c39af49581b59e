from __future__ import annotations

from collections.abc import Iterator

import pytest

from paddock import wiring
from paddock.settings import Settings
from paddock.wiring import Resources


@pytest.fixture
def resources(settings: Settings, database_url: str) -> Iterator[Resources]:
    """What a server holds, on each database in turn."""
    resources = wiring.build(settings.model_copy(update={"database_url": database_url}))
    yield resources
    resources.database.close()

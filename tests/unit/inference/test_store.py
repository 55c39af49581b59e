"""The table of models."""

from __future__ import annotations

import dataclasses
import time

import pytest

from paddock.errors import ConflictError, NotFoundError
from paddock.inference.engine import Model
from paddock.inference.store import ModelStore
from paddock.storage.database import Database

JUDGE = Model("judge", "lab", "judge-1", metadata={"size": 7})
CHECKPOINT = Model("run:epoch-1", "local", "run/1", job_id="run", base_model="org/base")


@pytest.fixture
def models(database: Database) -> ModelStore:
    return ModelStore(database)


def test_a_model_comes_back_as_it_went_in(models: ModelStore) -> None:
    before = time.time()
    for model in (JUDGE, CHECKPOINT):
        models.register(model)
        found = models.find(model.model_id)
        assert found == model
        assert before <= found.created_at <= time.time()
    assert models.list() == [JUDGE, CHECKPOINT]
    assert models.find("other") is None


def test_the_same_again_is_fine_and_changes_nothing(models: ModelStore) -> None:
    first = models.register(JUDGE)
    assert models.register(dataclasses.replace(JUDGE)).created_at == first.created_at


@pytest.mark.parametrize("change", [{"provider_model_id": "judge-2"}, {"metadata": {}}, {"model_type": "rerank"}])
def test_another_under_the_same_id_is_a_conflict(models: ModelStore, change: dict[str, object]) -> None:
    models.register(JUDGE)
    other = dataclasses.replace(JUDGE, **change)
    with pytest.raises(ConflictError):
        models.register(other)
    assert models.find("judge") == JUDGE
    models.register(other, replace=True)
    assert models.find("judge") == other


def test_a_checkpoint_is_neither_replaced_nor_removed(models: ModelStore) -> None:
    models.register(CHECKPOINT)
    with pytest.raises(ConflictError):
        models.register(Model("run:epoch-1", "lab", "x"), replace=True)
    with pytest.raises(ConflictError, match="checkpoint of the job run"):
        models.remove("run:epoch-1")


def test_remove(models: ModelStore) -> None:
    models.register(JUDGE)
    models.remove("judge")
    assert models.list() == []
    with pytest.raises(NotFoundError):
        models.remove("judge")

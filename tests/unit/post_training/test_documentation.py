"""docs/post-training.md names every field of both requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from paddock.post_training import optimizers, rows, schemas

TEXT = (Path(__file__).parents[3] / "docs" / "post-training.md").read_text()


@pytest.mark.parametrize(
    "schema",
    [
        schemas.SupervisedFineTuneRequest,
        schemas.PreferenceOptimizeRequest,
        schemas.TrainingConfig,
        schemas.DataConfig,
        schemas.OptimizerConfig,
        schemas.EfficiencyConfig,
        schemas.LoraFinetuningConfig,
        schemas.QATFinetuningConfig,
        schemas.DPOAlignmentConfig,
        schemas.PostTrainingMetric,
    ],
)
def test_every_field_is_documented(schema: type[BaseModel]) -> None:
    sections = {"training_config", "data_config", "optimizer_config", "efficiency_config", "type", "epoch"}
    fields = set(schema.model_fields) - sections
    assert sorted(f for f in fields if not any(f"`{p}{f}`" in TEXT for p in _PREFIXES)) == []


_PREFIXES = ("", "data_config.", "optimizer_config.", "efficiency_config.")


@pytest.mark.parametrize(
    "name", [*schemas.DPOLossType, *optimizers.OPTIMIZERS, *rows.PROMPT_FIELDS, *rows.ANSWER_FIELDS]
)
def test_every_choice_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT

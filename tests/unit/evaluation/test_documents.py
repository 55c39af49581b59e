from __future__ import annotations

from pathlib import Path

import pytest

from paddock.evaluation.schemas import AggregationFunctionType
from paddock.evaluation.scoring import KINDS, SCORING_FUNCTIONS

PAGE = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()


@pytest.mark.parametrize("function_id", SCORING_FUNCTIONS)
def test_every_scoring_function_has_its_section(function_id: str) -> None:
    assert f"\n### `{function_id}`\n" in PAGE


@pytest.mark.parametrize("aggregation", list(AggregationFunctionType))
def test_every_aggregation_has_its_formula(aggregation: AggregationFunctionType) -> None:
    assert f"\n| `{aggregation.value}` |" in PAGE


def test_every_kind_of_parameters_has_a_function() -> None:
    assert {SCORING_FUNCTIONS[function_id].defaults.type: function_id for function_id in KINDS.values()} == KINDS

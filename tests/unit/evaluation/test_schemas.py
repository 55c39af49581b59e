"""What the contract leaves to our classes; that they equal its schemas is `tests/contract/test_openapi.py`'s business."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from paddock import wire
from paddock.evaluation.schemas import BenchmarkConfig, EvaluateRowsRequest, ImageContentItem

CONFIG: dict[str, Any] = {"eval_candidate": {"model": "m", "sampling_params": {}}}


@pytest.fixture
def ignored() -> list[str]:
    notes: list[str] = []
    wire.ignored_fields.set(notes)
    return notes


def test_a_bare_and_a_wrapped_configuration_are_the_same(ignored: list[str]) -> None:
    bare = BenchmarkConfig.model_validate(CONFIG)
    wrapped = BenchmarkConfig.model_validate({"benchmark_config": CONFIG})
    assert bare.model_dump() == wrapped.model_dump()
    assert (bare.pointer, wrapped.pointer) == ("", "/benchmark_config")
    assert ignored == []


def test_errors_in_a_wrapped_configuration_are_told_from_the_top() -> None:
    config = {"benchmark_config": CONFIG | {"num_examples": "{many}", "scoring_params": {"f": {"type": "x"}}}}
    with pytest.raises(ValidationError) as caught:
        BenchmarkConfig.model_validate(config)
    places = {error["loc"] for error in caught.value.errors()}
    assert places == {("benchmark_config", "num_examples"), ("benchmark_config", "scoring_params", "f")}
    assert "valid integer" in str(caught.value)


def test_fields_that_nothing_reads_are_noted_where_they_stand(ignored: list[str]) -> None:
    candidate = {"model": "m", "sampling_params": {"temperature": 0.3}}
    BenchmarkConfig.model_validate({"benchmark_config": {"eval_candidate": candidate, "type": "x"}, "beside": 1})
    inside = ["/benchmark_config/type", "/benchmark_config/eval_candidate/sampling_params/temperature"]
    assert ignored == ["/beside", *inside]
    EvaluateRowsRequest.model_validate(
        {"input_rows": [{"any": 1}], "scoring_functions": [], "benchmark_config": CONFIG | {"type": "x"}}
    )
    assert ignored == ["/benchmark_config/type"]


def test_sampling_without_a_strategy_is_greedy() -> None:
    assert BenchmarkConfig.model_validate(CONFIG).eval_candidate.sampling_params.strategy.type == "greedy"


def test_the_image_item_bears_the_contracts_component_name() -> None:
    names = BenchmarkConfig.model_json_schema()["$defs"]
    assert names["ImageContentItem-Input"]["title"] == "ImageContentItem"
    assert ImageContentItem.__name__ == "ImageContentItem"

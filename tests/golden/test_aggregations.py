"""The five aggregation functions on fixed scores, against literals worked out with scipy 1.17 and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.evaluation.schemas import AggregationFunctionType, LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring.aggregation import Aggregator, aggregator_of

SCORES = (3, 7.5, 8, 2, 9, 7, 7, 10, 4.5, 6)
WEIGHTS = (1.0, 2.0, 1.0, 0.5, 3.0, 1.0, 1.0, 2.0, 1.0, 1.0)
FAILED = {"score": None, "error": "no verdict"}


def aggregate(function: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    aggregator = Aggregator([AggregationFunctionType(function)])
    for row in rows:
        aggregator.add(row)
    (result,) = aggregator.results().values()
    return result


def test_average() -> None:
    found = aggregate("average", [*({"score": score} for score in SCORES), FAILED])
    assert found.pop("ci95") == pytest.approx([4.5699659650407405, 8.23003403495926], rel=1e-12)
    assert found == pytest.approx(
        {"average": 6.4, "stderr": 0.8089774066341063, "num_total": 11, "num_scored": 10, "num_failed": 1}, rel=1e-12
    )


def test_weighted_average() -> None:
    rows = [{"score": score, "weight": weight} for score, weight in zip(SCORES, WEIGHTS, strict=True)]
    found = aggregate("weighted_average", rows)
    assert found["weighted_average"] == pytest.approx(7.296296296296297, rel=1e-12)
    assert found["stderr"] == pytest.approx(0.7455432052481313, rel=1e-12)
    assert found["ci95"] == pytest.approx([5.609760394368704, 8.982832198223889], rel=1e-12)


def test_a_weighted_average_without_weights_is_the_average() -> None:
    rows = [{"score": score} for score in SCORES]
    weighted, plain = aggregate("weighted_average", rows), aggregate("average", rows)
    assert weighted["weighted_average"] == pytest.approx(plain["average"])
    assert weighted["stderr"] == pytest.approx(plain["stderr"])
    assert weighted["ci95"] == pytest.approx(plain["ci95"])


def test_weights_that_sum_to_nothing_have_no_average() -> None:
    found = aggregate("weighted_average", [{"score": 1.0, "weight": 0.0}] * 3)
    assert (found["weighted_average"], found["stderr"], found["ci95"]) == (None, None, None)


def test_median() -> None:
    found = aggregate("median", [{"score": score} for score in SCORES])
    assert found == {
        "median": 7.0,
        "stderr": None,
        "ci95": [3.0, 9.0],
        "num_total": 10,
        "num_scored": 10,
        "num_failed": 0,
    }


def test_accuracy() -> None:
    rows = [{"score": 1.0}] * 8 + [{"score": 0.0}, {"score": 0.5}, FAILED, FAILED]
    found = aggregate("accuracy", rows)
    assert found.pop("ci95") == pytest.approx([0.4901624715366418, 0.9433178485456248], rel=1e-12)
    # s/√n of ten values of which eight are 1: √(0.8 · 0.2 / 9)
    assert found.pop("stderr") == pytest.approx(0.13333333333333333)
    assert found == {"accuracy": 0.8, "num_correct": 8, "num_total": 12, "num_scored": 10, "num_failed": 2}


def test_categorical_count() -> None:
    rows = [{"score": score} for score in ("B", "A", "B", 1.0, 7, 7)] + [FAILED]
    found = aggregate("categorical_count", rows)
    assert found == {
        "categorical_count": {"1.0": 1, "7": 2, "A": 1, "B": 2},
        "stderr": None,
        "ci95": None,
        "num_total": 7,
        "num_scored": 6,
        "num_failed": 1,
    }


@pytest.mark.parametrize("function", ["average", "weighted_average", "median", "accuracy"])
def test_a_score_that_is_no_number_has_no_place_in_a_mean(function: str) -> None:
    found = aggregate(function, [{"score": "A"}, {"score": 1.0}, {"score": 1.0}])
    assert found[function] == 1.0
    assert (found["num_total"], found["num_scored"], found["num_failed"]) == (3, 2, 1)


@pytest.mark.parametrize("function", ["average", "weighted_average", "median", "accuracy"])
@pytest.mark.parametrize("rows", [[], [FAILED]])
def test_without_a_score_there_is_no_result(function: str, rows: list[dict[str, Any]]) -> None:
    found = aggregate(function, rows)
    assert (found[function], found["stderr"], found["ci95"]) == (None, None, None)
    assert (found["num_scored"], found["num_failed"]) == (0, len(rows))


@pytest.mark.parametrize("function", ["average", "weighted_average", "median", "accuracy"])
def test_a_single_score_has_no_interval(function: str) -> None:
    found = aggregate(function, [{"score": 1.0}])
    assert (found[function], found["stderr"], found["ci95"]) == (1.0, None, None)


def test_sums_do_not_lose_small_scores() -> None:
    rows = [{"score": score} for score in [1e16, 1.0, -1e16, 1.0]]
    assert aggregate("average", rows)["average"] == 0.5


@pytest.mark.parametrize(
    ("function", "score_range", "worst", "best"),
    [
        # Scores 1, 0, 1, and two that failed.
        ("accuracy", None, 2 / 5, 4 / 5),
        ("average", None, 2 / 5, 4 / 5),
        ("average", [0, 10], 2 / 5, 22 / 5),
        ("accuracy", [0, 10], 2 / 5, 4 / 5),  # right is a score of 1
        ("median", [0, 10], 0, 1),
        ("weighted_average", [0, 10], 2 / 6, 32 / 6),  # a failed row of weight 2
    ],
)
def test_a_judges_failures_are_bounded(
    function: str, score_range: list[float] | None, worst: float, best: float
) -> None:
    params = LLMAsJudgeScoringFnParams(
        judge_model="j", aggregation_functions=[AggregationFunctionType(function)], score_range=score_range
    )
    aggregator = aggregator_of(params)
    failed = {"score": None, "error": "e"}
    for row in ({"score": 1}, {"score": 0}, failed, {"score": 1}, failed | {"weight": 2}):
        aggregator.add(row)
    result = aggregator.results()[function]
    assert result["if_failed"] == {
        "worst": pytest.approx(worst),
        "best": pytest.approx(best),
        "score_range": [0, 1] if function == "accuracy" or score_range is None else score_range,
    }
    assert result["num_failed"] == 2


def test_without_a_score_nothing_bounds_the_failures() -> None:
    params = LLMAsJudgeScoringFnParams(judge_model="j", aggregation_functions=[AggregationFunctionType.AVERAGE])
    aggregator = aggregator_of(params)
    aggregator.add({"score": None, "error": "e"})
    assert aggregator.results()["average"]["if_failed"] is None

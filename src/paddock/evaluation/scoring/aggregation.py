"""From score rows to results, each with what stands behind it: how many rows, how many failed, how sure it is.

`num_total` = `num_scored` + `num_failed`. A failed row is counted and is in no mean. For all but `categorical_count` a
score that is no number counts as failed too: it has no place in a mean.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from paddock.evaluation.schemas import AggregationFunctionType
from paddock.evaluation.scoring.function import Score
from paddock.evaluation.statistics import intervals, means
from paddock.evaluation.statistics.intervals import Interval
from paddock.evaluation.statistics.means import Estimate

Result = dict[str, Any]


class Number(NamedTuple):
    """A score, how much it counts in `weighted_average`, and the cluster of its row, if that has one."""

    value: float
    weight: float
    cluster: str | None


class Aggregator:
    """Takes in score rows one by one, in row order, and keeps of each no more than a number."""

    def __init__(self, functions: Sequence[AggregationFunctionType]) -> None:
        self._functions = functions
        self._num_total = 0
        self._numbers: list[Number] = []
        self._categories: Counter[str] = Counter()

    def add(self, row: Score) -> None:
        """Count a score row, a failed one (`score` null) included."""
        self._num_total += 1
        score = row.get("score")
        if score is None:
            return
        self._categories[score if isinstance(score, str) else str(score)] += 1
        if isinstance(score, int | float):
            self._numbers.append(Number(float(score), float(row.get("weight", 1.0)), row.get("cluster")))

    def results(self) -> dict[str, Result]:
        """`{function: {…}}`, as `aggregated_results` has it."""
        return {function.value: self._result(function) for function in self._functions}

    def _result(self, function: AggregationFunctionType) -> Result:
        if function is AggregationFunctionType.CATEGORICAL_COUNT:
            num_scored = self._categories.total()
            result = _categorical_count(self._categories)
        else:
            num_scored = len(self._numbers)
            result = _NUMERIC[function](self._numbers)
            clusters = _clusters(self._numbers)
            if clusters is not None:
                result["num_clusters"] = means.num_clusters(clusters)
        return result | {
            "num_total": self._num_total,
            "num_scored": num_scored,
            "num_failed": self._num_total - num_scored,
        }


def accuracy(numbers: Sequence[Number]) -> Result:
    """Correct / scored, where correct is a score of exactly 1. Wilson's interval."""
    correct = [number.value == 1 for number in numbers]
    estimate = means.proportion(correct, _clusters(numbers)) if numbers else None
    return {"accuracy": estimate and estimate.value, "num_correct": sum(correct)} | _how_sure(estimate)


def average(numbers: Sequence[Number]) -> Result:
    """The mean, and Student's t interval; of scores that are only 0 or 1, Wilson's."""
    values = [number.value for number in numbers]
    if not values:
        estimate = None
    elif all(value in (0.0, 1.0) for value in values):
        estimate = means.proportion([value == 1 for value in values], _clusters(numbers))
    else:
        estimate = means.mean(values, _clusters(numbers))
    return {"average": estimate and estimate.value} | _how_sure(estimate)


def weighted_average(numbers: Sequence[Number]) -> Result:
    """Σwx / Σw over `weight` of the score rows, 1 where a row has none. Student's t interval."""
    weights = [number.weight for number in numbers]
    estimate = None
    if math.fsum(weights) > 0:
        estimate = means.mean([number.value for number in numbers], _clusters(numbers), weights)
    return {"weighted_average": estimate and estimate.value} | _how_sure(estimate)


def median(numbers: Sequence[Number]) -> Result:
    """The median, and the interval between two order statistics that holds it: null below n = 6, and where rows come in
    clusters, for it is one of independent rows. It has no standard error that holds for every distribution: null."""
    ordered = sorted(number.value for number in numbers)
    value = statistics.median(ordered) if ordered else None
    interval = intervals.median(ordered) if _clusters(numbers) is None else None
    return {"median": value, "stderr": None, "ci95": _pair(interval)}


_NUMERIC: dict[AggregationFunctionType, Callable[[Sequence[Number]], Result]] = {
    AggregationFunctionType.ACCURACY: accuracy,
    AggregationFunctionType.AVERAGE: average,
    AggregationFunctionType.WEIGHTED_AVERAGE: weighted_average,
    AggregationFunctionType.MEDIAN: median,
}


def _categorical_count(categories: Counter[str]) -> Result:
    """How often each score came, by its text. Counts have no single standard error: null."""
    return {"categorical_count": dict(sorted(categories.items())), "stderr": None, "ci95": None}


def _clusters(numbers: Sequence[Number]) -> list[str | None] | None:
    """The cluster of each number, or None where no row names one."""
    clusters = [number.cluster for number in numbers]
    return clusters if any(cluster is not None for cluster in clusters) else None


def _how_sure(estimate: Estimate | None) -> Result:
    if estimate is None:
        return {"stderr": None, "ci95": None}
    return {"stderr": estimate.stderr, "ci95": _pair(estimate.interval)}


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)

"""From score rows to results, each with what stands behind it: how many rows, how many failed, how sure it is.

`num_total` = `num_scored` + `num_failed`. A failed row is counted and is in no mean. For all but `categorical_count` a
score that is no number counts as failed too: it has no place in a mean.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from paddock.evaluation.schemas import AggregationFunctionType, LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring.function import Params, Score, aggregations
from paddock.evaluation.scoring.verdicts import AgreementTally
from paddock.evaluation.statistics import intervals, means
from paddock.evaluation.statistics.intervals import Interval
from paddock.evaluation.statistics.means import Estimate

Result = dict[str, Any]

AGREEMENT = "agreement"
"""What a repeated judge's agreement with itself is called among its aggregated results."""


class Number(NamedTuple):
    """A score, how much it counts in `weighted_average`, and the cluster of its row, if that has one."""

    value: float
    weight: float
    cluster: str | None


@dataclass
class Judged:
    """What is told besides of scores that a judge gave: the range that they lie in, where it is known, and how much the
    judge agrees with itself."""

    score_range: tuple[float, float] | None
    agreement: AgreementTally = field(default_factory=AgreementTally)


class Aggregator:
    """Takes in score rows one by one, in row order, and keeps of each no more than a number."""

    def __init__(self, functions: Sequence[AggregationFunctionType], judge: Judged | None = None) -> None:
        self._functions = functions
        self._judge = judge
        self._num_total = 0
        self._numbers: list[Number] = []
        self._failures: list[Number] = []
        self._categories: Counter[str] = Counter()

    def add(self, row: Score) -> None:
        """Count a score row, a failed one (`score` null) included."""
        self._num_total += 1
        if self._judge is not None:
            self._judge.agreement.add(row)
        score = row.get("score")
        weight, cluster = float(row.get("weight", 1.0)), row.get("cluster")
        if not isinstance(score, int | float):
            self._failures.append(Number(0.0, weight, cluster))
        if score is None:
            return
        self._categories[score if isinstance(score, str) else str(score)] += 1
        if isinstance(score, int | float):
            self._numbers.append(Number(float(score), weight, cluster))

    def results(self) -> dict[str, Result]:
        """`{function: {…}}`, as `aggregated_results` has it."""
        results = {function.value: self._result(function) for function in self._functions}
        agreement = None if self._judge is None else self._judge.agreement.result()
        return results if agreement is None else results | {AGREEMENT: agreement}

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
            if self._judge is not None:
                result["if_failed"] = self._bounds(function)
        return result | {
            "num_total": self._num_total,
            "num_scored": num_scored,
            "num_failed": self._num_total - num_scored,
        }

    def _bounds(self, function: AggregationFunctionType) -> Result | None:
        """What the result would be if all that failed had the least score, and if all had the greatest: those that the
        judge can give, where it says so, else those that it gave. None if there is no score at all."""
        assert self._judge is not None
        if not self._numbers:
            return None
        values = [number.value for number in self._numbers]
        low, high = self._judge.score_range or (min(values), max(values))
        if function is AggregationFunctionType.ACCURACY:
            low, high = 0.0, 1.0  # right is a score of 1, whatever else a judge can give
        worst, best = (
            _NUMERIC[function](self._numbers + [failure._replace(value=value) for failure in self._failures])
            for value in (low, high)
        )
        return {"worst": worst[function.value], "best": best[function.value], "score_range": [low, high]}


def aggregator_of(params: Params) -> Aggregator:
    """What aggregates the scores of a function with these parameters."""
    judge = None
    if isinstance(params, LLMAsJudgeScoringFnParams):
        score_range = (0.0, 1.0) if params.pairwise is not None else params.score_range
        judge = Judged(None if score_range is None else (score_range[0], score_range[1]))
    return Aggregator(aggregations(params), judge)


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

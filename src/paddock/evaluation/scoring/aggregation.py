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
from paddock.evaluation.scoring import intervals
from paddock.evaluation.scoring.function import Score

Result = dict[str, Any]


class Weighted(NamedTuple):
    """A score, and how much it counts in `weighted_average`."""

    value: float
    weight: float


class Aggregator:
    """Takes in score rows one by one, in row order, and keeps of each no more than a number."""

    def __init__(self, functions: Sequence[AggregationFunctionType]) -> None:
        self._functions = functions
        self._num_total = 0
        self._numbers: list[Weighted] = []
        self._categories: Counter[str] = Counter()

    def add(self, row: Score) -> None:
        """Count a score row, a failed one (`score` null) included."""
        self._num_total += 1
        score = row.get("score")
        if score is None:
            return
        self._categories[score if isinstance(score, str) else str(score)] += 1
        if isinstance(score, int | float):
            self._numbers.append(Weighted(float(score), float(row.get("weight", 1.0))))

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
        return result | {
            "num_total": self._num_total,
            "num_scored": num_scored,
            "num_failed": self._num_total - num_scored,
        }


def accuracy(numbers: Sequence[Weighted]) -> Result:
    """Correct / scored, where correct is a score of exactly 1. Wilson's interval."""
    n = len(numbers)
    num_correct = sum(number.value == 1 for number in numbers)
    share = num_correct / n if n else None
    stderr = math.sqrt(share * (1 - share) / (n - 1)) if share is not None and n > 1 else None
    interval = intervals.wilson(num_correct, n) if n > 1 else None
    return {"accuracy": share, "num_correct": num_correct, "stderr": stderr, "ci95": _pair(interval)}


def average(numbers: Sequence[Weighted]) -> Result:
    """The mean, its standard error s/√n, and Student's t interval with n - 1 degrees of freedom."""
    values = [number.value for number in numbers]
    n = len(values)
    if n == 0:
        return {"average": None, "stderr": None, "ci95": None}
    mean = math.fsum(values) / n
    if n == 1:
        return {"average": mean, "stderr": None, "ci95": None}
    stderr = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return {"average": mean, "stderr": stderr, "ci95": _pair(intervals.student_t(mean, stderr, n - 1))}


def weighted_average(numbers: Sequence[Weighted]) -> Result:
    """Σwx / Σw over `weight` of the score rows, 1 where a row has none.

    The standard error is that of a ratio, √(n/(n-1) · Σw²(x - mean)²) / Σw (Cochran, "Sampling Techniques", 3rd ed.,
    1977, chapter 6); with equal weights it is s/√n. Student's t interval with n - 1 degrees of freedom."""
    n = len(numbers)
    total = math.fsum(number.weight for number in numbers)
    if not total > 0:
        return {"weighted_average": None, "stderr": None, "ci95": None}
    mean = math.fsum(number.weight * number.value for number in numbers) / total
    if n == 1:
        return {"weighted_average": mean, "stderr": None, "ci95": None}
    squares = math.fsum((number.weight * (number.value - mean)) ** 2 for number in numbers)
    stderr = math.sqrt(n / (n - 1) * squares) / total
    return {"weighted_average": mean, "stderr": stderr, "ci95": _pair(intervals.student_t(mean, stderr, n - 1))}


def median(numbers: Sequence[Weighted]) -> Result:
    """The median, and the interval between two order statistics that holds it, null below n = 6. It has no standard
    error that holds for every distribution: null."""
    ordered = sorted(number.value for number in numbers)
    value = statistics.median(ordered) if ordered else None
    return {"median": value, "stderr": None, "ci95": _pair(intervals.median(ordered))}


_NUMERIC: dict[AggregationFunctionType, Callable[[Sequence[Weighted]], Result]] = {
    AggregationFunctionType.ACCURACY: accuracy,
    AggregationFunctionType.AVERAGE: average,
    AggregationFunctionType.WEIGHTED_AVERAGE: weighted_average,
    AggregationFunctionType.MEDIAN: median,
}


def _categorical_count(categories: Counter[str]) -> Result:
    """How often each score came, by its text. Counts have no single standard error: null."""
    return {"categorical_count": dict(sorted(categories.items())), "stderr": None, "ci95": None}


def _pair(interval: intervals.Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)

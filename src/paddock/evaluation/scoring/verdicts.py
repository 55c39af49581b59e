"""Several verdicts of a judge on one answer: what they come to, and how much they agree.

The row's score is their mean, or, of verdicts in words, the most frequent one. A single verdict that cannot be read makes
the row a failed one, which keeps them all: what the judge might have said is not made up from what else it said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddock.evaluation.scoring.function import CannotScoreError, Score

KEY = "verdicts"
"""Where a score row keeps them, if there is more than one."""


@dataclass(frozen=True)
class Verdict:
    """One reply of a judge. `score` is None where `error` says why it could not be read; `is_swapped`: the two answers of a
    pair stood in each other's place."""

    score: float | str | None
    feedback: str
    error: str | None
    is_swapped: bool
    seed: int | None

    def to_json(self) -> dict[str, Any]:
        """As a score row keeps it."""
        kept: dict[str, Any] = {"score": self.score, "judge_feedback": self.feedback}
        for name, value in (("error", self.error), ("swapped", self.is_swapped or None), ("seed", self.seed)):
            if value is not None:
                kept[name] = value
        return kept


def combined(verdicts: Sequence[Verdict]) -> Score:
    """The score row of these verdicts on one answer. Raises `CannotScoreError` if one could not be read."""
    extras: dict[str, Any] = {"judge_feedback": verdicts[0].feedback}
    if len(verdicts) > 1:
        extras[KEY] = [verdict.to_json() for verdict in verdicts]
    error = next((verdict.error for verdict in verdicts if verdict.error is not None), None)
    if error is not None:
        raise CannotScoreError(error, **extras)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    if len(verdicts) > 1:
        extras["agreement"] = agreement(scores)
    return {"score": _middle(scores), **extras}


def agreement(scores: Sequence[float | str]) -> float:
    """The share of pairs of verdicts that are the same."""
    same = sum(count * (count - 1) for count in Counter(scores).values())
    return same / (len(scores) * (len(scores) - 1))


def _middle(scores: Sequence[float | str]) -> float | str:
    numbers = [score for score in scores if not isinstance(score, str)]
    if len(scores) == 1 or len(numbers) < len(scores):
        return Counter(scores).most_common(1)[0][0]
    return math.fsum(numbers) / len(numbers)


class AgreementTally:
    """Takes in score rows, and tells how much the judge agrees with itself over all of them."""

    def __init__(self) -> None:
        self._num_verdicts = 0
        self._num_unreadable = 0
        self._num_rows = 0
        self._sum_agreement: list[float] = []
        self._weighted_agreement: list[float] = []
        self._counts: Counter[float | str] = Counter()
        self._num_in_both_orders = 0
        self._num_same_in_both_orders = 0

    def add(self, row: Score) -> None:
        """Count the verdicts of a row; one that keeps none of several is none of a repeated judge."""
        given = row.get(KEY)
        if not given:
            return
        self._num_verdicts += len(given)
        self._num_unreadable += sum(verdict["score"] is None for verdict in given)
        scores = [verdict["score"] for verdict in given if verdict["score"] is not None]
        if len(scores) < 2:
            return
        self._num_rows += 1
        self._sum_agreement.append(agreement(scores))
        self._weighted_agreement.append(agreement(scores) * len(scores))
        self._counts.update(scores)
        swapped = [verdict["score"] for verdict in given if verdict.get("swapped") and verdict["score"] is not None]
        straight = [
            verdict["score"] for verdict in given if not verdict.get("swapped") and verdict["score"] is not None
        ]
        if swapped and straight:
            self._num_in_both_orders += 1
            self._num_same_in_both_orders += math.fsum(swapped) / len(swapped) == math.fsum(straight) / len(straight)

    def result(self) -> dict[str, Any] | None:
        """The mean agreement, Krippendorff's α of it for verdicts as categories (1: always the same, 0: as chance would
        have it; null where there is but one category), and of pairs the share of rows judged alike in both orders. None if
        no judge was asked twice.

        Source: K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C."""
        if not self._num_verdicts:
            return None
        n = self._counts.total()
        observed = 1 - math.fsum(self._weighted_agreement) / n if n else None
        expected = 1 - sum(c * (c - 1) for c in self._counts.values()) / (n * (n - 1)) if n else 0
        return {
            "agreement": math.fsum(self._sum_agreement) / self._num_rows if self._num_rows else None,
            "alpha": 1 - observed / expected if observed is not None and expected > 0 else None,
            "same_in_both_orders": self._num_same_in_both_orders / self._num_in_both_orders
            if self._num_in_both_orders
            else None,
            "num_rows": self._num_rows,
            "num_verdicts": self._num_verdicts,
            "num_unreadable": self._num_unreadable,
        }

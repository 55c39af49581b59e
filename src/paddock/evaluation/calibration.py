"""How far a judge can be trusted: it judges answers whose truth people have told, too, and its score is corrected for what
it gets wrong there.

A benchmark names such a set in its metadata: `{"judge_calibration": {"dataset_id": …, "threshold": 1}}`. Its rows bring a
`generated_answer` and a `label`, true for a good answer. A verdict of `threshold` or more is a yes. In a job they come after
the benchmark's rows, and their scores, with the label in them, are stored under the row numbers behind those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paddock.errors import InvalidRequestError
from paddock.evaluation.prompts import Row, UnreadableRowError
from paddock.evaluation.prompts import generated_answer as answer_of
from paddock.evaluation.scoring.function import Score
from paddock.evaluation.statistics import intervals, judge_correction
from paddock.evaluation.statistics.judge_correction import Calibration

KEY = "judge_calibration"
"""Where a benchmark's metadata names it, and a job's request."""

CORRECTED = "corrected"
"""What the corrected score is called among a function's aggregated results."""

_POINTER = f"/metadata/{KEY}"
_KEYS = {"dataset_id", "threshold"}


@dataclass(frozen=True)
class CalibrationSet:
    """Rows with labels, and the least score that is a yes."""

    dataset_id: str
    threshold: float = 1.0


def named_in(metadata: Mapping[str, Any]) -> CalibrationSet | None:
    """The calibration set that a benchmark's metadata names, or None. Raises `InvalidRequestError`."""
    found = metadata.get(KEY)
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("dataset_id"), str) or found.keys() - _KEYS:
        raise InvalidRequestError(
            f'`{KEY}` is {{"dataset_id": …, "threshold": 1}}: a dataset of judged answers with their `label`, and the least '
            "score that counts as a yes (1 where it is absent).",
            pointer=_POINTER,
        )
    threshold = found.get("threshold", 1.0)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise InvalidRequestError("`threshold` must be a number.", pointer=f"{_POINTER}/threshold")
    return CalibrationSet(found["dataset_id"], float(threshold))


def check_rows(calibration_set: CalibrationSet, rows: Iterable[Row]) -> None:
    """Raise `InvalidRequestError` unless each row has an answer and a label, and there are labels of both kinds."""
    labels = set()
    for index, row in enumerate(rows):
        try:
            answer_of(row)
            labels.add(label(row))
        except UnreadableRowError as error:
            raise InvalidRequestError(
                f"Row {index} of the dataset {calibration_set.dataset_id!r}, which the judge is calibrated on: {error}"
            ) from None
    if labels != {True, False}:
        raise InvalidRequestError(
            f"The dataset {calibration_set.dataset_id!r}, which the judge is calibrated on, must hold good and bad answers: "
            "rows with `label` true, and rows with `label` false."
        )


def label(row: Row) -> bool:
    """Whether people found the row's answer good. Raises `UnreadableRowError`."""
    value = row.get("label")
    if value not in (True, False):
        raise UnreadableRowError("`label` must be true for a good answer and false for a bad one.", column="label")
    return bool(value)


class Corrector:
    """Takes in a judge's score rows, those of the evaluation (`add`) and the labelled ones (`add_labelled`)."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._verdicts: list[bool] = []
        self._has_clusters = False
        self._of_good: list[bool] = []
        self._of_bad: list[bool] = []

    def add(self, row: Score) -> None:
        """Count a score row; one that failed, or is in words, has no verdict."""
        if isinstance(row["score"], int | float):
            self._verdicts.append(row["score"] >= self._threshold)
            self._has_clusters = self._has_clusters or "cluster" in row

    def add_labelled(self, row: Score) -> None:
        """Count the score row of an answer whose `label` says whether it is good."""
        if isinstance(row["score"], int | float):
            (self._of_good if row["label"] else self._of_bad).append(row["score"] >= self._threshold)

    def result(self) -> dict[str, Any]:
        """The share of good answers, corrected for how the judge did on the labelled ones.

        Null, with its interval, for a judge that did no better there than chance. The interval is one of independent
        rows: null where they come in clusters."""
        num_yes, num_scored = sum(self._verdicts), len(self._verdicts)
        result: dict[str, Any] = {
            CORRECTED: None,
            "stderr": None,
            "ci95": None,
            "raw": num_yes / num_scored if num_scored else None,
            "num_scored": num_scored,
            "threshold": self._threshold,
            "num_calibrated": len(self._of_good) + len(self._of_bad),
        }
        found, rejected = self._of_good, [not verdict for verdict in self._of_bad]
        for rate, verdicts in (("sensitivity", found), ("specificity", rejected)):
            result[rate] = sum(verdicts) / len(verdicts) if verdicts else None
            result[f"{rate}_ci95"] = list(intervals.wilson(sum(verdicts), len(verdicts))) if verdicts else None
        if found and rejected and num_scored:
            calibration = Calibration(len(found), sum(found), len(rejected), sum(rejected))
            share = judge_correction.correct(num_yes / num_scored, calibration)
            interval = judge_correction.interval(num_yes, num_scored, calibration)
            # Few labels may leave one of the two without an answer: then there is none.
            if share is not None and interval is not None:
                result[CORRECTED] = share
                result["ci95"] = None if self._has_clusters else list(interval)
        return result

"""What the quickstart makes of results: an exam's score, telling examples, and whether its promises are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from paddock.quickstart.surroundings import QuickstartError

SCORING = "basic::equality"

_TUNED_AT_LEAST = 0.9
_BASE_AT_MOST = 0.2
_KNOWN_AT_LEAST = 0.9


@dataclass(frozen=True)
class Score:
    """An exam's score: the share of right answers over its scored rows. `answers` has one for each row, None where the
    row failed."""

    accuracy: float
    ci95: tuple[float, float]
    num_scored: int
    num_failed: int
    answers: tuple[str | None, ...]


class Example(NamedTuple):
    """One question of the exam, and what the model said before and after its training."""

    question: str
    right: str
    before: str | None
    after: str | None


def read_score(result: dict[str, Any]) -> Score:
    """The score in an `EvaluateResponse`. Raises `QuickstartError` where too few rows were scored to say anything."""
    accuracy = result["scores"][SCORING]["aggregated_results"]["accuracy"]
    if accuracy["ci95"] is None:
        reasons = (row["error"] for row in result["generations"] if row.get("error"))
        raise QuickstartError(f"{accuracy['num_failed']} rows of an exam failed; the first: {next(reasons, 'unknown')}")
    low, high = accuracy["ci95"]
    return Score(
        accuracy=accuracy["accuracy"],
        ci95=(low, high),
        num_scored=accuracy["num_scored"],
        num_failed=accuracy["num_failed"],
        answers=tuple(generation.get("generated_answer") for generation in result["generations"]),
    )


def written_dates(rows: Sequence[dict[str, Any]]) -> set[str]:
    """The right answers in rows of any of the quickstart's shapes: the calendar dates that they are about."""
    return {row.get("answer") or row.get("chosen") or row["messages"][-1]["content"] for row in rows}


def telling_examples(rows: Sequence[dict[str, Any]], before: Score, after: Score, *, num: int = 4) -> list[Example]:
    """A few questions that the training mended and, if there is one, a question that it did not."""
    examples = [
        Example(row["question"], row["answer"], old, new)
        for row, old, new in zip(rows, before.answers, after.answers, strict=True)
    ]
    mended = [e for e in examples if e.before != e.right and e.after == e.right]
    still_wrong = [e for e in examples if e.after != e.right]
    return mended[:num] + still_wrong[:1]


def unmet(base: dict[str, Score], tuned: dict[str, Score]) -> list[str]:
    """What the quickstart promises and these scores do not show, a sentence each."""
    promises = (
        (
            base["known forms"].accuracy > _KNOWN_AT_LEAST,
            f"the base model is not over {_KNOWN_AT_LEAST:.0%} on the forms it knows",
        ),
        (base["exam"].accuracy < _BASE_AT_MOST, f"the base model is not under {_BASE_AT_MOST:.0%} on the exam"),
        (tuned["exam"].accuracy > _TUNED_AT_LEAST, f"the tuned model is not over {_TUNED_AT_LEAST:.0%} on the exam"),
    )
    return [sentence for kept, sentence in promises if not kept]

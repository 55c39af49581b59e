"""`loglikelihood::acc`, `loglikelihood::acc_norm`, `loglikelihood::acc_bytes`: 1.0 where of a row's choices the right one is
the likeliest after its question, else 0.0.

No answer is generated: the model tells the log-likelihood of each choice. What is compared is their sum over a choice's
tokens, as it is or divided by the choice's length, as lm-evaluation-harness defines the metrics of these names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddock import wire
from paddock.evaluation import prompts
from paddock.evaluation.prompts import Row, UnreadableRowError
from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction


def right_choices(row: Row) -> set[int]:
    """The indices of the right choices: `answer` is the index of one from 0, its text, or a list of indices as JSON text.
    Raises `UnreadableRowError`."""
    choices, answer = prompts.choices(row), row.get("answer")
    if isinstance(answer, str):
        answer = choices.index(answer) if answer in choices else _parsed(answer)
    found = answer if isinstance(answer, list) else [answer]
    if not found or any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(choices) for i in found):
        raise UnreadableRowError(
            f"`answer` must name one of the {len(choices)} `choices`: by its index from 0, or by its text."
        )
    return set(found)


def _parsed(text: str) -> Any:
    try:
        return wire.from_json(text)
    except (ValueError, RecursionError):
        return None


def _function(length: Callable[[str], int], description: str) -> ScoringFunction:
    async def score(sample: Sample, _ask: Ask) -> Score:
        found = sample.log_likelihoods
        choices = prompts.choices(sample.row)
        if found is None or len(found) != len(choices):
            raise CannotScoreError("The answer comes without the log-likelihoods of the row's choices.")
        values = [value / length(choice) for value, choice in zip(found, choices, strict=True)]
        chosen = values.index(max(values))  # of equals the first
        return {"score": 1.0 if chosen in right_choices(sample.row) else 0.0, "chosen": chosen}

    def prepare(_params: Any, _pointer: str) -> Scorer:
        return Scorer(score, needs_expected_answer=True, columns=("choices",))

    return ScoringFunction(
        description=description,
        return_type="number",
        defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
        prepare=prepare,
        by_likelihood=True,
    )


LIKELIHOOD: dict[str, ScoringFunction] = {
    "loglikelihood::acc": _function(
        lambda _choice: 1, "1.0 if the right choice has the greatest log-likelihood, else 0.0."
    ),
    "loglikelihood::acc_norm": _function(
        len, "1.0 if the right choice has the greatest log-likelihood per character, else 0.0."
    ),
    "loglikelihood::acc_bytes": _function(
        lambda choice: len(choice.encode()),
        "1.0 if the right choice has the greatest log-likelihood per byte, else 0.0.",
    ),
}

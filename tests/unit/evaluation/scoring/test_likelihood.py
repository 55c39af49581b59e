"""Which choice counts as chosen, and which as right; the definitions are those of lm-evaluation-harness."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.evaluation.evaluate import score_row
from paddock.evaluation.scoring import SCORING_FUNCTIONS
from paddock.evaluation.scoring.function import Ask, Score

CHOICES = ["no", "perhaps", "ÄÄÄ"]  # of 2, 7 and 3 characters, of 2, 7 and 6 bytes


async def nobody(*_: Any) -> str:
    raise AssertionError("it asks no judge")


def scored(function: str, log_likelihoods: list[float], answer: Any, choices: Any = CHOICES) -> Score:
    row = {"question": "Will it?", "answer": answer, "choices": choices}
    found = [{"log_likelihood": value, "num_tokens": 1} for value in log_likelihoods]
    scorer = SCORING_FUNCTIONS[f"loglikelihood::{function}"]
    ask: Ask = nobody  # type: ignore[assignment]  # it is never called
    prepared = scorer.prepare(scorer.defaults, "")
    return asyncio.run(score_row(prepared, ask, row, {"generated_answer": "no", "choices": found}))


@pytest.mark.parametrize(
    ("function", "log_likelihoods", "chosen"),
    [
        ("acc", [-2.0, -7.0, -6.0], 0),
        ("acc", [-3.0, -3.0, -3.0], 0),  # of equals the first
        ("acc_norm", [-2.0, -6.0, -6.0], 1),  # -1, -0.86, -2
        ("acc_norm", [-2.0, -7.7, -2.9], 2),  # -1, -1.1, -0.97
        ("acc_bytes", [-2.0, -7.7, -5.9], 2),  # -1, -1.1, -0.98
        ("acc_bytes", [-2.0, -6.0, -6.0], 1),
    ],
)
def test_the_chosen_one(function: str, log_likelihoods: list[float], chosen: int) -> None:
    assert scored(function, log_likelihoods, chosen) == {"score": 1.0, "chosen": chosen}
    assert scored(function, log_likelihoods, (chosen + 1) % 3) == {"score": 0.0, "chosen": chosen}


@pytest.mark.parametrize(
    ("answer", "is_right"), [(1, True), ("perhaps", True), ("[0, 1]", True), (0, False), ("[2]", False)]
)
def test_the_right_one(answer: Any, is_right: bool) -> None:
    score = scored("acc", [-2.0, -1.0, -3.0], answer)
    assert score["score"] == float(is_right)


@pytest.mark.parametrize("answer", [3, -1, "maybe", "[0, 7]", "[]", True, 1.0, "[true]", "{}"])
def test_an_answer_that_names_no_choice_is_a_failed_row(answer: Any) -> None:
    score = scored("acc", [-2.0, -1.0, -3.0], answer)
    assert score["score"] is None
    assert "must name one of the 3 `choices`" in score["error"]


@pytest.mark.parametrize("choices", ["no", ["no"], ["no", ""], [0, 1], None, ["x"] * 257])
def test_choices_that_cannot_be_compared(choices: Any) -> None:
    score = scored("acc_norm", [-2.0, -1.0], 0, choices)
    assert score["score"] is None
    assert "choices" in score["error"]


def test_an_answer_without_likelihoods_is_a_failed_row() -> None:
    score = scored("acc", [], 0)
    assert "without the log-likelihoods" in score["error"]

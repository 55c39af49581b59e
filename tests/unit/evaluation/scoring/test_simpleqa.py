from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring.function import GREEDY, CannotScoreError, Sample, completed
from paddock.evaluation.scoring.simpleqa import SIMPLEQA
from paddock.inference.engine import Sampling

SAMPLE = Sample("Who wrote it?", "Ada Lovelace", "Lovelace")


def scored(reply: str, **params: Any) -> dict[str, Any]:
    async def ask(prompt: str, _sampling: Sampling = GREEDY) -> str:
        assert all(
            text in prompt for text in ("Who wrote it?", "Ada Lovelace", "<given_answer>Lovelace</given_answer>")
        )
        return reply

    complete = completed(LLMAsJudgeScoringFnParams(judge_model="judge", **params), SIMPLEQA.defaults)
    return asyncio.run(SIMPLEQA.prepare(complete, "").score(SAMPLE, ask))


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("A", "A"),
        (" b", None),
        ("B.", "B"),
        ("**C**", "C"),
        ("(A)", "A"),
        ("CORRECT", "A"),
        ("INCORRECT", "B"),
        ("NOT_ATTEMPTED", "C"),
        ("NOT ATTEMPTED", "C"),
        ("Correct.", "A"),
        ("**incorrect**", "B"),
        ("This is correct, I think.", None),
        ("The answer is INCORRECT.", "B"),
        ("It contradicts the correct answer.\nB", "B"),
        ("Compare: both name her.\n\n**A**", "A"),
        ("Grade: C", "C"),
        ("The grade is B", "B"),
        ("A: CORRECT", "A"),
        ("B: INCORRECT", "B"),
        ("C - NOT_ATTEMPTED", "C"),
        ('The answer claims "CORRECT" for itself, and is INCORRECT.', "B"),
        ("Given answer: A river. Grade: B, for it is a lake.", "B"),
        ("Because it is late", None),
        ("", None),
    ],
)
def test_verdicts_are_read_whole(reply: str, grade: str | None) -> None:
    if grade is None:
        with pytest.raises(CannotScoreError) as caught:
            scored(reply)
        assert caught.value.extras == {"judge_feedback": reply}
    else:
        assert scored(reply) == {"score": grade, "judge_feedback": reply}


def test_own_regexes_stand_over_these() -> None:
    assert scored("yes", judge_score_regexes=["(yes|no)"])["score"] == "yes"

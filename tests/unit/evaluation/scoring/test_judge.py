from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring.function import CannotScoreError, Sample, Scorer, completed
from paddock.evaluation.scoring.judge import JUDGE, fill, verdict

SAMPLE = Sample("What is the capital of France?", "Paris", "It is {expected_answer}, I think.")


def judge(**params: Any) -> Scorer:
    complete = completed(LLMAsJudgeScoringFnParams(judge_model="judge", **params), JUDGE.defaults)
    return JUDGE.prepare(complete, "/params")


def scored(reply: str, sample: Sample = SAMPLE, **params: Any) -> dict[str, Any]:
    async def ask(_prompt: str) -> str:
        return reply

    return asyncio.run(judge(**params).score(sample, ask))


def test_all_braces_but_the_placeholders_are_text() -> None:
    template = '{"q": "{input_query}", "a": {generated_answer}, "x": {other}, {{}} {expected_answer}'
    assert fill(template, Sample("q?", "e", "{input_query}")) == '{"q": "q?", "a": {input_query}, "x": {other}, {{}} e'


@pytest.mark.parametrize(
    ("captured", "value"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("+7", 7),
        ("-2", -2),
        ("7.5", 7.5),
        ("1.0", 1.0),
        ("７", 7),
        ("A", "A"),
        ("CORRECT", "CORRECT"),
        ("7/10", "7/10"),
        ("nan", "nan"),
        ("1e400", "1e400"),
        ("9" * 400, "9" * 400),
    ],
)
def test_verdicts(captured: str, value: float | str) -> None:
    assert verdict(captured) == value
    assert type(verdict(captured)) is type(value)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("It says the same.\nScore: 1", 1),
        ("Score: 0.", 0),
        ("**Score:** 7.5", 7.5),
        ("Score: 1 would be too much.\nScore: 0\n", 0),
        ("Rating = 8/10 because", 8),
        ("Grade: B", "B"),
        ("grade: **CORRECT**", "CORRECT"),
        ("5", 5),
    ],
)
def test_verdicts_in_replies_by_the_default_regexes(reply: str, value: float | str) -> None:
    assert scored(reply) == {"score": value, "judge_feedback": reply}


def test_a_reply_without_a_verdict_is_a_failed_row_that_keeps_it() -> None:
    with pytest.raises(CannotScoreError) as caught:
        scored("I would rather not say.")
    assert caught.value.extras == {"judge_feedback": "I would rather not say."}


def test_own_regexes_and_template() -> None:
    asked: list[str] = []

    async def ask(prompt: str) -> str:
        asked.append(prompt)
        return "verdict=[[B]]"

    scorer = judge(prompt_template="Grade {generated_answer}!", judge_score_regexes=[r"\[\[(.)\]\]"])
    assert not scorer.needs_expected_answer
    score = asyncio.run(scorer.score(Sample(None, None, "x"), ask))
    assert asked == ["Grade x!"]
    assert score["score"] == "B"


def test_the_default_template_shows_the_judge_everything() -> None:
    asked: list[str] = []

    async def ask(prompt: str) -> str:
        asked.append(prompt)
        return "Score: 1"

    scorer = judge()
    assert scorer.needs_expected_answer
    asyncio.run(scorer.score(SAMPLE, ask))
    assert all(text in asked[0] for text in ("capital of France", "\nParis\n", "{expected_answer}, I think"))


def test_a_template_that_hides_the_answer_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="generated_answer") as caught:
        judge(prompt_template="Is {expected_answer} right?")
    assert caught.value.errors[0].pointer == "/params/prompt_template"


def test_a_judge_that_is_to_see_a_question_needs_one() -> None:
    with pytest.raises(CannotScoreError, match="what was asked"):
        scored("Score: 1", Sample(None, "e", "g"))

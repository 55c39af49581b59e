"""`llm-as-judge::base`: a judge model reads the answer and gives a verdict, which regexes read out of its reply.

A verdict that is a number becomes one ("7", "7.5"); other captured text stays text, for `categorical_count`. A reply in
which no regex finds a verdict is a failed row that keeps the reply as `judge_feedback`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from paddock.errors import InvalidRequestError
from paddock.evaluation.schemas import AggregationFunctionType, LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring import regexes
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction

DEFAULT_TEMPLATE = """\
You are a strict and fair examiner. Grade the answer that was given to a question.

Question:
{input_query}

Expected answer:
{expected_answer}

Given answer:
{generated_answer}

Does the given answer say the same as the expected answer? Differences of wording do not matter, differences of meaning \
do. Explain in one sentence, then end with a line of this form, where the score is 1 for yes and 0 for no:
Score: 1"""

DEFAULT_REGEXES = (
    # The last line, as the default template asks for it; then anywhere: "Score: 7", "**Rating**: 4.5", "Grade = B".
    r"(?i)(?:score|rating|grade)[\s*_]*[:=][\s*_]*([+-]?\d+(?:\.\d+)?|[A-Z]+)[\s*_.]*$",
    r"(?i)(?:score|rating|grade)[\s*_]*[:=][\s*_]*([+-]?\d+(?:\.\d+)?|[A-F]\b)",
    # A bare number is a verdict too.
    r"^[\s*_]*([+-]?\d+(?:\.\d+)?)[\s*_.]*$",
)

_PLACEHOLDER = re.compile(r"\{(input_query|expected_answer|generated_answer)\}")
# Numbers longer than these digits are no grades; their squares would not be finite.
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")


def fill(template: str, sample: Sample) -> str:
    """The judge's prompt. All braces but those of the three placeholders are text, and so is what is filled in."""
    values = {
        "input_query": sample.input_query or "",
        "expected_answer": sample.expected_answer or "",
        "generated_answer": sample.generated_answer,
    }
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def verdict(captured: str) -> float | int | str:
    """A captured verdict: a number where it is one, else its text without surrounding space."""
    text = unicodedata.normalize("NFKC", captured).strip()
    if _NUMBER.fullmatch(text) is None:
        return text
    return float(text) if "." in text else int(text)


def prepare(params: LLMAsJudgeScoringFnParams, pointer: str, grades: Mapping[str, str] | None = None) -> Scorer:
    """A judge with these parameters; `grades` turns captured words into what they stand for."""
    template = params.prompt_template
    assert template is not None
    placeholders = set(_PLACEHOLDER.findall(template))
    if "generated_answer" not in placeholders:
        raise InvalidRequestError(
            "The judge's template lacks {generated_answer}: the judge would not see what it judges.",
            pointer=f"{pointer}/prompt_template",
        )
    patterns = regexes.compile_all(params.judge_score_regexes, f"{pointer}/judge_score_regexes")

    async def score(sample: Sample, ask: Ask) -> Score:
        if sample.input_query is None and "input_query" in placeholders:
            raise CannotScoreError("The judge is to see what was asked, and the row does not say.")
        feedback = await ask(fill(template, sample))
        try:
            found = await regexes.find(patterns, feedback)
        except CannotScoreError as error:
            raise CannotScoreError(error.reason, judge_feedback=feedback) from None
        if found is None:
            raise CannotScoreError("No regex finds a verdict in the judge's reply.", judge_feedback=feedback)
        found = found if grades is None else grades.get(found.strip(), found)
        return {"score": verdict(found), "judge_feedback": feedback}

    return Scorer(score, needs_expected_answer="expected_answer" in placeholders)


JUDGE = ScoringFunction(
    description="A judge model's verdict on the generated answer: a number, or a text such as a letter grade.",
    return_type="number",
    # Which model judges is for each request, or each registered function, to say.
    defaults=LLMAsJudgeScoringFnParams(
        judge_model="",
        prompt_template=DEFAULT_TEMPLATE,
        judge_score_regexes=list(DEFAULT_REGEXES),
        aggregation_functions=[AggregationFunctionType.AVERAGE, AggregationFunctionType.CATEGORICAL_COUNT],
    ),
    prepare=prepare,
)

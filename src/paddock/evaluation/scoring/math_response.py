"""`basic::regex_parser_math_response`: 1.0 where the generated answer is mathematically equal to the expected one, else 0.0.

math-verify reads both: numbers, fractions, LaTeX, sets, intervals, matrices; of an answer what is boxed, or else said last.
Its word is final on what equals what. An answer with no mathematics in it is wrong (0.0, `extracted_answer` null).
"""

from __future__ import annotations

from typing import NamedTuple

from paddock.evaluation.schemas import AggregationFunctionType, RegexParserScoringFnParams
from paddock.evaluation.scoring import killable, regexes
from paddock.evaluation.scoring.filtered_match import refuse_matching
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction

_LIBRARY_SECONDS = 3

_SIGNS = str.maketrans({"\u2212": "-", "\u00a0": " "})


class Verdict(NamedTuple):
    """`extracted` is what was read of the answer, as text; `is_right` None means that the expected one is no mathematics."""

    is_right: bool | None
    extracted: str | None


def compare(expected: str, generated: str) -> Verdict:
    """Whether the two are equal. For a process of its own: math-verify limits its own time by the process's alarm."""
    from math_verify import parse, verify

    expected, generated = (text.translate(_SIGNS).replace(r"\$", "") for text in (expected, generated))
    # What stands alone in a column is mostly bare LaTeX, which is mathematics only between dollar signs.
    gold = parse(f"${expected}$", parsing_timeout=_LIBRARY_SECONDS) or parse(expected, parsing_timeout=_LIBRARY_SECONDS)
    if not gold:
        return Verdict(None, None)
    target = parse(generated, parsing_timeout=_LIBRARY_SECONDS)
    is_right = bool(target) and verify(gold, target, timeout_seconds=_LIBRARY_SECONDS)
    return Verdict(is_right, str(target[-1]) if target else None)


def _prepare(params: RegexParserScoringFnParams, pointer: str) -> Scorer:
    refuse_matching(params, pointer)
    killable.require(pointer, "math_verify")
    patterns = regexes.compile_all(params.parsing_regexes, f"{pointer}/parsing_regexes")

    async def score(sample: Sample, _ask: Ask) -> Score:
        assert sample.expected_answer is not None
        answer: str | None = sample.generated_answer
        if patterns:
            found = await regexes.find(patterns, sample.generated_answer)
            answer = None if found is None else f"${found}$"
        if answer is None:
            return {"score": 0.0, "extracted_answer": None}
        verdict = await killable.call(compare, sample.expected_answer, answer)
        if verdict.is_right is None:
            raise CannotScoreError("The expected answer holds no number and no expression.")
        return {"score": 1.0 if verdict.is_right else 0.0, "extracted_answer": verdict.extracted}

    return Scorer(score, needs_expected_answer=True)


MATH_RESPONSE = ScoringFunction(
    description="1.0 if the generated answer is mathematically equal to the expected one, else 0.0.",
    return_type="number",
    # Without regexes math-verify finds the answer itself.
    defaults=RegexParserScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
    prepare=_prepare,
)

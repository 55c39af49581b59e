"""`text::filtered_exact_match`: 1.0 where what regexes find in the generated answer is the expected one, else 0.0.

It is the metric `exact_match` of lm-evaluation-harness behind its filter `regex`: of a pattern's matches the selected one
counts, of its groups the first that is not empty, without white space around it. Without patterns the whole answer is
compared. An answer in which nothing is found is wrong (0.0, `extracted_answer` null).
"""

from __future__ import annotations

import json
import string
import time
from typing import NamedTuple

import regex

from paddock.errors import InvalidRequestError
from paddock.evaluation.prompts import UnreadableRowError
from paddock.evaluation.schemas import AggregationFunctionType, RegexParserScoringFnParams, TextMatching
from paddock.evaluation.scoring import killable, regexes
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_DIGITS = str.maketrans("", "", string.digits)


class Verdict(NamedTuple):
    """`extracted` is what was found in the answer; `too_slow` the regex at which time was up."""

    is_right: bool
    extracted: str | None
    too_slow: str | None = None


class _Regexes:
    """Regexes that together have `regexes.TIMEOUT_SECONDS` of processor time."""

    def __init__(self) -> None:
        self._deadline = time.process_time() + regexes.TIMEOUT_SECONDS
        self.current = ""

    def selected(self, pattern: str, text: str, position: int) -> str | None:
        """What the match at this position captured; None if there is none, or all its groups are empty."""
        self.current = pattern
        matches = regex.findall(pattern, text, timeout=self._left())
        try:
            match = matches[position]
        except IndexError:
            return None
        if isinstance(match, tuple):
            match = next(filter(None, match), None)
        return None if match is None else str(match).strip()

    def without(self, pattern: str, text: str) -> str:
        """The text less all that the pattern matches."""
        self.current = pattern
        return str(regex.sub(pattern, "", text, timeout=self._left()))

    def _left(self) -> float:
        return max(self._deadline - time.process_time(), 0.001)


def compare(expected_json: str, generated: str, params_json: str) -> Verdict:
    """Whether the answer is one of the expected ones, a list of texts. For a process of its own, if there are regexes."""
    params = RegexParserScoringFnParams.model_validate_json(params_json)
    matching = params.matching or TextMatching()
    found, run = generated if not params.parsing_regexes else None, _Regexes()
    try:
        for pattern in params.parsing_regexes:
            found = run.selected(pattern, generated, matching.select)
            if found is not None:
                break
        if found is None:
            return Verdict(False, None)
        plain = _plain(found, matching, run)
        is_right = any(_plain(expected, matching, run) == plain for expected in json.loads(expected_json))
    except TimeoutError:
        return Verdict(False, None, too_slow=run.current)
    return Verdict(is_right, found)


def _plain(text: str, matching: TextMatching, run: _Regexes) -> str:
    """A text without what is no difference, in the order in which the metric removes it."""
    for pattern in matching.regexes_to_ignore:
        text = run.without(pattern, text)
    if matching.ignore_case:
        text = text.lower()
    if matching.ignore_punctuation:
        text = text.translate(_NO_PUNCTUATION)
    return text.translate(_NO_DIGITS) if matching.ignore_numbers else text


def refuse_matching(params: RegexParserScoringFnParams, pointer: str) -> None:
    """For functions that compare in their own way: raise `InvalidRequestError` if they are told another."""
    if params.matching is not None:
        raise InvalidRequestError(
            "This function compares in its own way: `matching` is for `text::filtered_exact_match`.",
            pointer=f"{pointer}/matching",
        )


def _prepare(params: RegexParserScoringFnParams, pointer: str) -> Scorer:
    matching = params.matching or TextMatching()
    # Compiled for what it refuses; they are run by `regex`, for all matches, in a process of their own.
    regexes.compile_all(params.parsing_regexes, f"{pointer}/parsing_regexes")
    regexes.compile_all(matching.regexes_to_ignore, f"{pointer}/matching/regexes_to_ignore")
    has_regexes = bool(params.parsing_regexes or matching.regexes_to_ignore)
    params_json = params.model_dump_json()

    async def score(sample: Sample, _ask: Ask) -> Score:
        asked = json.dumps(_expected(sample)), sample.generated_answer, params_json
        if not has_regexes:
            verdict = compare(*asked)
        else:
            verdict = await killable.call(compare, *asked)
        if verdict.too_slow is not None:
            raise CannotScoreError(f"The regex {verdict.too_slow!r} took longer than {regexes.TIMEOUT_SECONDS:g} s.")
        return {"score": 1.0 if verdict.is_right else 0.0, "extracted_answer": verdict.extracted}

    return Scorer(score, needs_expected_answer=True)


def _expected(sample: Sample) -> list[str]:
    """The row's `answers`, each of which is right; where it has none, its one expected answer."""
    answers = sample.row.get("answers")
    if answers is None:
        assert sample.expected_answer is not None
        return [sample.expected_answer]
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise UnreadableRowError("`answers` must be a list of texts.")
    return answers


FILTERED_MATCH = ScoringFunction(
    description="1.0 if what regexes find in the generated answer is the expected one, else 0.0.",
    return_type="number",
    defaults=RegexParserScoringFnParams(
        aggregation_functions=[AggregationFunctionType.ACCURACY], matching=TextMatching()
    ),
    prepare=_prepare,
)

"""`basic::bfcl`: 1.0 where the function calls in the generated answer are the expected ones, else 0.0, as the Berkeley
function-calling leaderboard compares them (Patil et al. 2025, its categories of one turn).

A row has the columns of BFCL: `function` (schemas of what can be called), `ground_truth` (a list of
`{name: {parameter: [possible values]}}`; without it the expected answer, as JSON), and `test_category` (else the beginning
of `id`), which also says the language: Python's, Java's or JavaScript's. In categories of irrelevance the right answer is
one that calls nothing, in those of relevance any call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring import function_calls, killable, typed_calls
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction
from paddock.evaluation.scoring.function_calls import Call, NoCallError

LANGUAGES = ("python", "java", "javascript")


def compare(answer: str, category: str, language: str, functions_json: str, expected_json: str) -> Score:
    """The score row. For a process of its own: a model's text is parsed."""
    try:
        calls = _read(answer, language)
    except NoCallError as error:
        return {"score": float("irrelevance" in category), "extracted_calls": None, "mismatch": str(error)}
    extracted = [{call.name: call.arguments} for call in calls]
    if "relevance" in category:
        is_right = bool(calls) != ("irrelevance" in category)
        return {"score": float(is_right), "extracted_calls": extracted, "mismatch": None}
    functions, expected = json.loads(functions_json), json.loads(expected_json)
    if language == "python":
        mismatch = function_calls.mismatch(calls, functions, expected)
    else:
        mismatch = function_calls.mismatch(calls, functions, expected, partial(typed_calls.value_of, language=language))
    # Through JSON: an answer may hold what a score row cannot, such as tuples and sets.
    shown = json.loads(json.dumps(extracted, default=str))
    return {"score": float(not mismatch), "extracted_calls": shown, "mismatch": mismatch or None}


def _read(answer: str, language: str) -> list[Call]:
    if language == "python":
        return function_calls.read(answer)
    calls = function_calls.read(answer, typed_calls.read)
    if not all(isinstance(value, str) for call in calls for value in call.arguments.values()):
        raise NoCallError("The arguments of a call in Java or JavaScript are texts, also in JSON.")
    return calls


def language_of(row: Mapping[str, Any]) -> str:
    """The language that the row wants calls in: its `language`, else the one in its category, else Python. Raises
    `CannotScoreError` for one that is not compared here."""
    category = category_of(row)
    in_category = "javascript" if "javascript" in category else "java" if "java" in category else "python"
    language = str(row.get("language") or in_category).lower()
    if language not in LANGUAGES:
        raise CannotScoreError(f"The row wants calls in {language!r}, and those compared are {', '.join(LANGUAGES)}.")
    return language


def category_of(row: Mapping[str, Any]) -> str:
    """The row's category, such as `parallel_multiple`; "" where nothing says it."""
    named = row.get("test_category")
    return named if isinstance(named, str) else re.sub(r"_\d[\d_-]*$", "", str(row.get("id", "")))


async def score(sample: Sample, _ask: Ask) -> Score:
    """The calls of the answer against the row's."""
    row = sample.row
    category = category_of(row)
    language = language_of(row)
    functions = _listed(row, "function", row.get("function"))
    expected = []
    if "relevance" not in category:
        wanted = row.get("ground_truth")
        expected = _listed(row, "ground_truth", sample.expected_answer if wanted is None else wanted)
        if not expected or not all(_is_expected(call) for call in expected):
            raise CannotScoreError("The row's `ground_truth` must be a list of {name: {parameter: [possible values]}}.")
    return await killable.call(
        compare, sample.generated_answer, category, language, json.dumps(functions), json.dumps(expected)
    )


def _listed(row: Mapping[str, Any], column: str, value: Any) -> list[Any]:
    """A list of objects, or JSON text of one, or of a single object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise CannotScoreError(f"The row's `{column}` is no JSON.") from None
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise CannotScoreError(f"The row's `{column}` must be a list of objects.")
    if column == "function" and not all(isinstance(item.get("name"), str) for item in items):
        raise CannotScoreError("Each of the row's functions must have a `name`.")
    return items


def _is_expected(call: Mapping[str, Any]) -> bool:
    return len(call) == 1 and all(
        isinstance(possible, dict) and all(isinstance(values, list) for values in possible.values())
        for possible in call.values()
    )


def _prepare(_params: BasicScoringFnParams, _pointer: str) -> Scorer:
    return Scorer(score, needs_expected_answer=False, columns=("function",))


BFCL = ScoringFunction(
    description="1.0 if the function calls in the generated answer are the expected ones (BFCL), else 0.0.",
    return_type="number",
    defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
    prepare=_prepare,
)

"""Cases of lm-evaluation-harness's filter `regex` and its `exact_match`; the verdicts are what its code says of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation.evaluate import score_row
from paddock.evaluation.schemas import RegexParserScoringFnParams
from paddock.evaluation.scoring import SCORING_FUNCTIONS, kind_of
from paddock.evaluation.scoring.function import Ask, Score, completed

FUNCTION = SCORING_FUNCTIONS["text::filtered_exact_match"]


async def nobody(*_: Any) -> str:
    raise AssertionError("it asks no judge")


def scored(answer: str, expected: Any, *patterns: str, answers: Any = None, **matching: Any) -> Score:
    given = RegexParserScoringFnParams.model_validate({"parsing_regexes": list(patterns), "matching": matching})
    ask: Ask = nobody  # type: ignore[assignment]  # it is never called
    row = {"question": "q", "answer": expected, "answers": answers}
    scorer = FUNCTION.prepare(completed(given, FUNCTION.defaults), "/p")
    return asyncio.run(score_row(scorer, ask, row, {"generated_answer": answer}))


NUMBER = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"


@pytest.mark.parametrize(
    ("answer", "patterns", "select", "extracted"),
    [
        ("so 12 and then 34.", (NUMBER,), 0, "12"),
        ("so 12 and then 34", (NUMBER,), -1, "34"),
        ("so 7", (NUMBER,), -1, "7"),  # the first group is empty
        ("none", (NUMBER,), 0, None),
        ("a b", (r"\w",), 2, None),  # there is no third match
        ("x: (B) ", (r"\(([A-D])\)", r"([A-D])"), 0, "B"),
        ("B", (r"\(([A-D])\)", r"([A-D])"), 0, "B"),  # the second pattern, for the first found nothing
        ("The  answer is  x ", (r"answer is(.*)",), 0, "x"),
        ("anything", (), 0, "anything"),
    ],
)
def test_what_is_extracted(answer: str, patterns: tuple[str, ...], select: int, extracted: str | None) -> None:
    score = scored(answer, extracted or "", *patterns, select=select)
    assert score == {"score": float(extracted is not None), "extracted_answer": extracted}


@pytest.mark.parametrize(
    ("answer", "expected", "matching", "is_right"),
    [
        ("Paris", "paris", {}, False),
        ("Paris", "paris", {"ignore_case": True}, True),
        (" Paris", "Paris", {}, False),
        ("Paris!", "Paris", {"ignore_punctuation": True}, True),
        ("Paris 2", "Paris 3", {"ignore_numbers": True}, True),
        ("$1,200", "1200", {"regexes_to_ignore": [",", r"\$"]}, True),
        ("#### 12", "12", {"regexes_to_ignore": ["(?s).*#### "]}, True),
        ("12", "x #### 12", {"regexes_to_ignore": ["(?s).*#### "]}, True),  # from the expected one, too
    ],
)
def test_what_is_no_difference(answer: str, expected: str, matching: dict[str, Any], is_right: bool) -> None:
    assert scored(answer, expected, **matching)["score"] == float(is_right)


def test_any_of_several_answers_is_right() -> None:
    assert scored("b", "a", answers=["a", "b"])["score"] == 1.0
    assert scored("c", "a", answers=["a", "b"])["score"] == 0.0
    assert "list of texts" in scored("c", "a", answers=[1])["error"]


def test_a_regex_that_runs_away_is_a_failed_row() -> None:
    score = scored("a" * 5000, "x", "(a|aa)+(?=$)(?<!a)b")
    assert score["score"] is None
    assert "took longer" in score["error"]


@pytest.mark.parametrize("name", ["basic::regex_parser_multiple_choice_answer", "basic::regex_parser_math_response"])
def test_other_functions_compare_in_their_own_way(name: str) -> None:
    function = SCORING_FUNCTIONS[name]
    given = RegexParserScoringFnParams.model_validate({"matching": {}})
    with pytest.raises(InvalidRequestError) as caught:
        function.prepare(completed(given, function.defaults), "/p")  # type: ignore[arg-type]  # of the kind given
    assert caught.value.errors[0].pointer == "/p/matching"


def test_a_registered_function_with_matching_is_of_this_kind() -> None:
    assert kind_of(RegexParserScoringFnParams.model_validate({"matching": {}})) == "text::filtered_exact_match"
    assert kind_of(RegexParserScoringFnParams()) == "basic::regex_parser_multiple_choice_answer"


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"parsing_regexes": ["("]}, "/p/parsing_regexes/0"),
        ({"matching": {"regexes_to_ignore": ["x", "["]}}, "/p/matching/regexes_to_ignore/1"),
    ],
)
def test_regexes_that_are_none(params: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        FUNCTION.prepare(RegexParserScoringFnParams.model_validate(params), "/p")
    assert caught.value.errors[0].pointer == pointer

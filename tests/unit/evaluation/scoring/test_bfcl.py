"""Function calls by their syntax trees. The reference's own verdicts are in `tests/golden`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from paddock.evaluation.schemas import BasicScoringFnParams
from paddock.evaluation.scoring.bfcl import BFCL
from paddock.evaluation.scoring.function import CannotScoreError, Sample, Score

SCHEMA = {
    "name": "geo.book",
    "parameters": {
        "type": "dict",
        "properties": {
            "place": {"type": "string"},
            "guests": {"type": "integer"},
            "budget": {"type": "float"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "host": {"type": "dict", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
        },
        "required": ["place"],
    },
}
EXPECTED = {
    "geo.book": {
        "place": ["Chez Ana"],
        "guests": [2, ""],
        "budget": [50.0, ""],
        "tags": [["quiet", "vegan"], ""],
        "host": [{"name": ["Bo"], "age": [40, ""]}, ""],
    }
}
ROW = {"id": "simple_python_0", "function": [SCHEMA], "ground_truth": [EXPECTED]}


async def no_judge(_prompt: str) -> str:
    raise AssertionError


def scored(answer: str, row: dict[str, Any] = ROW, expected: str | None = None) -> Score:
    scorer = BFCL.prepare(BasicScoringFnParams(), "")
    return asyncio.run(scorer.score(Sample("q", expected, answer, row), no_judge))


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('geo.book(place="Chez Ana")', 1.0),
        ('[geo.book(place="chez-ana", guests=2, budget=50)]', 1.0),  # an integer where a float is declared
        ("```python\ngeo.book(place='Chez Ana', guests=1 + 1)\n```", 1.0),
        ('geo.book(place="Chez Ana", budget=100 / 2)', 1.0),
        ('geo.book(place="Chez Ana", tags=["Quiet", "vegan"])', 1.0),
        ('geo.book(place="Chez Ana", host={"name": "Bo"})', 1.0),
        ('{"name": "geo.book", "arguments": {"place": "Chez Ana"}}', 1.0),
        ('{"name": "geo_book", "parameters": {"place": "Chez Ana"}}', 1.0),  # OpenAI's API takes no dots
        ('[{"function": {"name": "geo.book", "arguments": "{\\"place\\": \\"Chez Ana\\"}"}}]', 1.0),
        ('{"tool_calls": [{"function": {"name": "geo.book", "arguments": {"place": "Chez Ana"}}}]}', 1.0),
        ('[{"geo.book": {"place": "Chez Ana"}}]', 1.0),
        ('<tool_call>{"name": "geo.book", "arguments": {"place": "Chez Ana"}}</tool_call>', 1.0),
        ('geo.book(place="Chez Bo")', 0.0),
        ("geo.book(guests=2)", 0.0),  # lacks a required one
        ('geo.book(place="Chez Ana", guests=2.0)', 0.0),
        ('geo.book(place="Chez Ana", guests=True)', 0.0),
        ('geo.book(place="Chez Ana", guests="2")', 0.0),
        ('geo.book(place="Chez Ana", budget=1/0)', 0.0),
        ('geo.book(place="Chez Ana", tags=["vegan", "quiet"])', 0.0),
        ('geo.book(place="Chez Ana", tags=("quiet", "vegan"))', 0.0),
        ('geo.book(place="Chez Ana", host={"name": "Bo", "town": "x"})', 0.0),
        ('geo.book(place="Chez Ana", host={"age": 40})', 0.0),
        ('geo.book(place="Chez Ana", colour="red")', 0.0),
        ('geo.book("Chez Ana")', 0.0),
        ('geo.book(**{"place": "Chez Ana"})', 0.0),
        ('book(place="Chez Ana")', 0.0),
        ('geo.book(place="Chez Ana"), geo.book(place="Chez Ana")', 0.0),
        ("[]", 0.0),
        ("I would book a table at Chez Ana.", 0.0),
        ('{"place": "Chez Ana"}', 0.0),
        ("(" * 5000, 0.0),
        ("-" * 5000 + "1", 0.0),
        ("[" * 50_000, 0.0),
        ("geo.book(place=" + "9" * 5000 + ")", 0.0),
        ('__import__("os").system(command="x")', 0.0),
    ],
)
def test_one_call(answer: str, score: float) -> None:
    found = scored(answer)
    assert found["score"] == score
    assert (found["mismatch"] is None) == bool(score)


PARALLEL = {
    "id": "parallel_1",
    "function": json.dumps([{"name": "f", "parameters": {}}]),
    "ground_truth": json.dumps([{"f": {"x": [1, 2]}}, {"f": {"x": [1]}}]),
}


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("[f(x=1), f(x=2)]", 1.0),  # the first takes the 2, though the 1 would do for it
        ("[f(x=2), f(x=1)]", 1.0),
        ("[f(x=2), f(x=2)]", 0.0),
        ("[f(x=1)]", 0.0),
        ("[f(x=1), f(x=2), f(x=1)]", 0.0),
    ],
)
def test_parallel_calls_come_in_any_order(answer: str, score: float) -> None:
    assert scored(answer, PARALLEL)["score"] == score


@pytest.mark.parametrize(
    ("category", "answer", "score"),
    [
        ("irrelevance", "I cannot do that.", 1.0),
        ("irrelevance", "[]", 1.0),
        ("live_irrelevance", "f(x=1)", 0.0),
        ("live_relevance", "f(x=1)", 1.0),
        ("live_relevance", "I cannot do that.", 0.0),
    ],
)
def test_whether_anything_is_called(category: str, answer: str, score: float) -> None:
    row = {"test_category": category, "function": [{"name": "f"}]}
    assert scored(answer, row)["score"] == score


TYPED = {
    "function": [{"name": "f", "parameters": {"properties": {"x": {"type": "long"}, "y": {"type": "any"}}}}],
    "ground_truth": [{"f": {"x": [5], "y": ["me", ""]}}],
}


@pytest.mark.parametrize(
    ("changes", "answer", "score"),
    [
        ({"id": "simple_java_3"}, "[f(x=5L)]", 1.0),
        ({"id": "simple_java_3"}, "[f(x=5)]", 0.0),
        ({"test_category": "simple_java"}, "f(x=5L, y=me);", 1.0),
        ({"language": "Java"}, '{"f": {"x": "5L"}}', 1.0),
        ({"language": "Java"}, '{"f": {"x": 5}}', 0.0),  # a source text is expected, also in JSON
        ({"language": "Java"}, "```java\nf(x=5L)\n```", 1.0),
        ({"id": "simple_javascript_3", "ground_truth": [{"f": {"x": ["5"]}}]}, '[f(x="5")]', 1.0),
        ({"language": "python", "id": "simple_java_3"}, "f(x=5)", 1.0),
    ],
)
def test_the_row_says_in_which_language_calls_are_written(changes: dict[str, Any], answer: str, score: float) -> None:
    assert scored(answer, {**TYPED, **changes})["score"] == score


def test_the_expected_answer_stands_in_for_the_ground_truth() -> None:
    row = {"function": {"name": "f"}}
    assert scored("f(x=1)", row, expected='[{"f": {"x": [1]}}]')["score"] == 1.0
    with pytest.raises(CannotScoreError, match="`ground_truth` must be"):
        scored("f(x=1)", row)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"function": "{"}, "`function` is no JSON"),
        ({"function": ["f"]}, "must be a list of objects"),
        ({"function": [{}]}, "must have a `name`"),
        ({"ground_truth": [{"f": {"x": 1}}]}, "`ground_truth` must be"),
        ({"ground_truth": []}, "`ground_truth` must be"),
        ({"language": "Rust"}, "in 'rust', and those compared are python, java, javascript"),
    ],
)
def test_what_cannot_be_compared_is_a_failed_row(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CannotScoreError, match=reason):
        scored("f(x=1)", {**ROW, **changes})

"""IFEval's 25 instructions: what follows each, and what does not. The reference's own verdicts are in `tests/golden`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.evaluation.schemas import BasicScoringFnParams
from paddock.evaluation.scoring.function import CannotScoreError, Sample, Score
from paddock.evaluation.scoring.ifeval import IFEVAL, variants
from paddock.evaluation.scoring.instructions import INSTRUCTIONS, follows, problem_with


async def no_judge(_prompt: str) -> str:
    raise AssertionError


def scored(answer: str, **row: Any) -> Score:
    scorer = IFEVAL.prepare(BasicScoringFnParams(), "")
    return asyncio.run(scorer.score(Sample("q", None, answer, row), no_judge))


LESS, LEAST = {"relation": "less than"}, {"relation": "at least"}
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Boat", "sea"]}, "boats at sea", "boats"),
    ("keywords:existence", {"keywords": ["c++"]}, "I like C++.", "I like C."),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, **LEAST}, "Sun and sunny", "sun"),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, **LESS}, "sun", "sun, sun"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "A Cat."),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 3, "let_relation": "at least"},
        "Eleven e",
        "two e's",
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Das Wetter ist heute sehr schön.",
        "The weather is nice today.",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, **LEAST},
        "It rained. We stayed in.",
        "Dr. Lee met Mr. Ash at 5 p.m. in the old town.",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 3, **LESS}, "Why? No idea!", "One. Two? Three!"),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 4, **LEAST},
        "Prof. Diaz paid 3.50 euros. She left. It was late. Nobody saw her.",
        "Prof. Diaz paid 3.50 euros at 5 p.m. for bread. She left. It was late.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo\n***", "one\n***\n***\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, **LEAST}, "a well-known", "two words"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'then, it ended",
        "Then.\n\nFirst",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [street]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\np. s. more", "Bye\nPS more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "* a\n** b **\n* c\n- d"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **b**", "* * and *a*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a\nSection 2 b",
        "Section one\nSection 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:json_format", {}, "[" * 50 + "]" * 50, "[" * 50_000 + "]" * 50_000),
    ("detectable_format:title", {}, "<<A poem>>\nroses", "<< >>\nroses"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Name it."}, "name it. Rex", "Rex. Name it."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, '"Yes. any questions?"', "Any questions? Yes."),
    ("startend:quotation", {}, ' "yes" ', '"yes'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "STOP right THERE",
        "STOP right There",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "The NASA-ESA mission went well.",  # a hyphen joins
        "NASA and ESA met.",
    ),
    ("change_case:english_capital", {}, "THIS IS ALL IN CAPITALS", "This is not in capitals"),
    ("change_case:english_lowercase", {}, "this is all in small letters", "This is not all in small letters"),
    ("punctuation:no_comma", {}, "one two", "one, two"),
]


def test_the_table_has_every_instruction() -> None:
    assert {case[0] for case in CASES} == INSTRUCTIONS.keys()
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(("instruction_id", "arguments", "right", "wrong"), CASES)
def test_an_instruction_is_followed_or_not(
    instruction_id: str, arguments: dict[str, Any], right: str, wrong: str
) -> None:
    assert problem_with(instruction_id, arguments) is None
    assert follows(right, instruction_id, arguments)
    assert not follows(wrong, instruction_id, arguments)
    assert not follows("  ", instruction_id, arguments)


def test_a_row_is_the_share_of_its_instructions() -> None:
    score = scored(
        "Sure:\n*one* two",
        instruction_id_list=["punctuation:no_comma", "length_constraints:number_words", "startend:quotation"],
        kwargs=[{"num_words": None}, {"num_words": 3, "relation": "less than"}, None],
    )
    assert score == {
        "score": pytest.approx(1 / 3),
        "weight": 3.0,
        "loose": pytest.approx(2 / 3),  # without its first line it has two words
        "follows_all": False,
        "follows_all_loose": False,
        "instructions": [
            {"instruction_id": "punctuation:no_comma", "follows": True, "follows_loose": True},
            {"instruction_id": "length_constraints:number_words", "follows": False, "follows_loose": True},
            {"instruction_id": "startend:quotation", "follows": False, "follows_loose": False},
        ],
    }


def test_the_variants_are_the_papers() -> None:
    assert sorted(variants("a*\nb\n c")) == sorted(["a\nb\n c", "b\n c", "a*\nb", "b", "b\n c", "a\nb", "b"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "`instruction_id_list` must be a list"),
        ({"instruction_id_list": ["no:such"]}, "no instruction 'no:such'"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "`kwargs` must be a list"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["x"]}, "must be an object"),
        ({"instruction_id_list": ["keywords:existence"]}, "needs `keywords`"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": [1]}]}, "needs texts in `keywords`"),
        (
            {
                "instruction_id_list": ["length_constraints:number_words"],
                "kwargs": [{"num_words": 3, "relation": "over"}],
            },
            "'less than' or 'at least'",
        ),
    ],
)
def test_what_cannot_be_checked_is_a_failed_row(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(CannotScoreError, match=reason):
        scored("x", **row)


def test_the_same_text_is_in_the_same_language_each_time() -> None:
    found = {follows("I mare in hotel via", "language:response_language", {"language": "it"}) for _ in range(10)}
    assert len(found) == 1

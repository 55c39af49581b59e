from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation.schemas import RegexParserScoringFnParams
from paddock.evaluation.scoring.function import CannotScoreError, Sample, completed
from paddock.evaluation.scoring.multiple_choice import MULTIPLE_CHOICE, expected_choice, normalised


async def no_judge(_: str) -> str:
    raise AssertionError


def scored(generated: str, expected: str = "B", **params: Any) -> dict[str, Any]:
    complete = completed(RegexParserScoringFnParams(**params), MULTIPLE_CHOICE.defaults)
    scorer = MULTIPLE_CHOICE.prepare(complete, "/params")
    return asyncio.run(scorer.score(Sample("q", expected, generated), no_judge))


@pytest.mark.parametrize(
    ("generated", "choice"),
    [
        # the letter alone, however it is dressed
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("(b).", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("`B`", "B"),
        (" B\n", "B"),
        ("Ｂ", "B"),
        # the letter and what it stands for
        ("B) Paris", "B"),
        ("**B.** Paris", "B"),
        ("(B) Paris", "B"),
        ("B: Paris", "B"),
        # said in English
        ("Answer: B", "B"),
        ("ANSWER: b", "B"),
        ("Answer:\n\nB\n", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: B", "B"),
        ("Answer Choice: (A)", "A"),
        ("<answer>B</answer>", "B"),
        ("The answer is **(C)**.", "C"),
        ("The correct answer is option D.", "D"),
        ("The best answer is B because it rains.", "B"),
        ("The final answer is $\\boxed{C}$", "C"),
        ("$\\boxed{\\text{(C)}}$", "C"),
        ("Answer: \\text{B}", "B"),
        ("Answer: b\nbecause", "B"),
        ("Some think A, some B. The answer is a matter of taste; still, answer: J", "J"),
        # said in other languages and scripts
        ("La respuesta correcta es C", "C"),
        ("Réponse : A", "A"),
        ("Die Antwort ist B.", "B"),
        ("Resposta: D", "D"),
        ("La risposta è C.", "C"),
        ("ответ: A", "A"),
        ("Đáp án: B", "B"),
        ("Câu trả lời là C", "C"),
        ("答案是B", "B"),
        ("答案：Ｂ", "B"),
        ("答え：C", "C"),
        ("答えはDです", "D"),
        ("정답은 B입니다", "B"),
        ("الإجابة: ب", "B"),
        ("উত্তর: খ", "B"),
        ("উত্তর: ঢ", "D"),
        ("उत्तर: ख", "B"),
        ("คำตอบคือ ข", "B"),
        ("תשובה: ב", "B"),
        # no choice at all
        ("INCORRECT", None),
        ("CORRECT", None),
        ("", None),
        ("A common mistake", None),
        ("Answer: I think it rains", None),
        ("Answer: Because of B", None),
        ("The answer is not B", None),
        ("answer: none of the above", None),
        ("الإجابة: بعد", None),
    ],
)
def test_choices_as_models_write_them(generated: str, choice: str | None) -> None:
    found = scored(generated, expected="B")
    assert found["extracted_answer"] == choice
    assert found["score"] == float(choice == "B")


@pytest.mark.parametrize(
    ("expected", "choice"),
    [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("B. Paris", "B"), ("b) Paris", "B"), ("ب", "B"), ("Be", "BE")],
)
def test_expected_choices_as_datasets_write_them(expected: str, choice: str) -> None:
    assert expected_choice(expected) == choice


def test_normalisation_leaves_words() -> None:
    assert normalised("  **Paris** ") == "PARIS"


def test_own_regexes_replace_the_default_ones() -> None:
    own = [r"<<(\w+)>>", r"choice (\d+)"]
    assert scored("my choice 3, answer: B", expected="3", parsing_regexes=own)["score"] == 1.0
    assert scored("<<Tokyo>>", expected="tokyo", parsing_regexes=own) == {"score": 1.0, "extracted_answer": "TOKYO"}
    assert scored("Answer: B", parsing_regexes=own) == {"score": 0.0, "extracted_answer": None}


def test_the_first_regex_that_matches_counts() -> None:
    assert scored("x=A y=B", parsing_regexes=["y=(.)", "x=(.)"])["extracted_answer"] == "B"


def test_a_regex_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        scored("B", parsing_regexes=["fine", "("])
    assert caught.value.errors[0].pointer == "/params/parsing_regexes/1"


def test_a_regex_that_takes_too_long_is_the_rows_failure() -> None:
    with pytest.raises(CannotScoreError, match="longer than 1 s"):
        scored("a" * 5000 + "é", parsing_regexes=[r"(\w|\w\w)+(?=!)$"])


def test_a_text_that_is_too_long_is_the_rows_failure() -> None:
    with pytest.raises(CannotScoreError, match="64 KB"):
        scored("x" * 70_000)

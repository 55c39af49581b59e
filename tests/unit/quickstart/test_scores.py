"""What the quickstart makes of results, and when it says that it did not show what it should."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.quickstart import dates
from paddock.quickstart.scores import Score, read_score, telling_examples, unmet, written_dates
from paddock.quickstart.surroundings import QuickstartError


def score(accuracy: float, *answers: str | None) -> Score:
    return Score(accuracy, (0.0, 1.0), len(answers), 0, answers)


def result(**accuracy: Any) -> dict[str, Any]:
    generations = [{"generated_answer": "2024-01-01"}, {"error": "the model is gone"}]
    scores = {"basic::equality": {"score_rows": [], "aggregated_results": {"accuracy": accuracy}}}
    return {"generations": generations, "scores": scores}


def test_a_score_is_read_with_all_that_stands_behind_it() -> None:
    read = read_score(result(accuracy=0.5, ci95=[0.1, 0.9], num_scored=2, num_failed=1))
    assert read == Score(0.5, (0.1, 0.9), 2, 1, ("2024-01-01", None))


def test_an_exam_whose_rows_failed_says_why() -> None:
    with pytest.raises(QuickstartError, match=r"2 rows of an exam failed.*the model is gone"):
        read_score(result(accuracy=None, ci95=None, num_scored=0, num_failed=2))


def test_training_and_exams_share_no_date() -> None:
    trained = written_dates([*dates.fine_tuning_rows(), *dates.preference_rows()])
    examined = written_dates([*dates.new_form_exam(), *dates.known_forms_exam()])
    assert len(trained) > 1900
    assert len(examined) > 400
    assert not trained & examined


def test_examples_are_those_that_training_mended_and_one_that_it_did_not() -> None:
    rows = [{"question": str(i), "answer": "right"} for i in range(7)]
    before = score(0.1, "right", *["wrong"] * 6)
    after = score(0.6, "right", "right", "wrong", "right", None, "right", "right")
    examples = telling_examples(rows, before, after, num=3)
    assert [(e.question, e.before, e.after) for e in examples] == [
        ("1", "wrong", "right"),
        ("3", "wrong", "right"),
        ("5", "wrong", "right"),
        ("2", "wrong", "wrong"),
    ]


@pytest.mark.parametrize(
    ("known", "base", "tuned", "words"),
    [
        (0.99, 0.0, 0.95, []),
        (0.90, 0.0, 0.95, ["over 90% on the forms it knows"]),
        (0.99, 0.20, 0.95, ["under 20% on the exam"]),
        (0.99, 0.0, 0.90, ["tuned model is not over 90%"]),
        (0.5, 0.5, 0.5, ["forms it knows", "under 20%", "tuned model"]),
    ],
)
def test_broken_promises_are_named(known: float, base: float, tuned: float, words: list[str]) -> None:
    sentences = unmet({"known forms": score(known), "exam": score(base)}, {"exam": score(tuned)})
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))

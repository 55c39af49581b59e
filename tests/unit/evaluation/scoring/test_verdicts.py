"""How much a judge agrees with itself, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.evaluation.scoring.verdicts import AgreementTally, agreement


def row(*scores: float | str | None, swapped: int = 0) -> dict[str, Any]:
    straight = len(scores) - swapped
    return {
        "verdicts": [
            {"score": score, "judge_feedback": ""} | ({"swapped": True} if index >= straight else {})
            for index, score in enumerate(scores)
        ]
    }


def told(*rows: dict[str, Any]) -> dict[str, Any] | None:
    tally = AgreementTally()
    for each in rows:
        tally.add(each)
    return tally.result()


@pytest.mark.parametrize(
    ("scores", "value"), [([1, 1], 1.0), ([1, 0], 0.0), ([1, 1, 0], 1 / 3), (["A", "A", "A", "B"], 0.5)]
)
def test_agreement_is_the_share_of_equal_pairs(scores: list[Any], value: float) -> None:
    assert agreement(scores) == pytest.approx(value)


def test_a_judge_that_was_asked_once_has_none() -> None:
    assert told({"score": 1, "judge_feedback": "1"}, {"score": None, "error": "e"}) is None


def test_krippendorffs_alpha() -> None:
    # Two raters, ten units: K. Krippendorff (2011), section A: "binary data, two observers, no missing data": α = 0.095.
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = told(*(row(*pair) for pair in zip(first, second, strict=True)))
    assert found is not None
    assert found["alpha"] == pytest.approx(0.095, abs=5e-4)
    assert found["agreement"] == pytest.approx(0.6)
    assert (found["num_rows"], found["num_verdicts"], found["num_unreadable"]) == (10, 20, 0)


def test_a_judge_that_always_says_the_same_has_no_alpha() -> None:
    found = told(row(1, 1), row(1, 1))
    assert found is not None
    assert (found["agreement"], found["alpha"]) == (1.0, None)


def test_unreadable_verdicts_are_counted_and_compared_with_none() -> None:
    found = told(row(1, None, 0), row(None, None))
    assert found is not None
    assert (found["num_rows"], found["num_verdicts"], found["num_unreadable"]) == (1, 5, 3)
    assert found["agreement"] == 0.0


def test_both_orders_agree_or_not() -> None:
    found = told(row(1.0, 1.0, swapped=1), row(1.0, 0.0, swapped=1), row(0.5, 1.0, 1.0, 0.5, swapped=2))
    assert found is not None
    assert found["same_in_both_orders"] == pytest.approx(2 / 3)

from __future__ import annotations

import asyncio

import pytest

from paddock.evaluation.scoring.function import CannotScoreError, Sample
from paddock.evaluation.scoring.subset_of import score


async def no_judge(_: str) -> str:
    raise AssertionError


@pytest.mark.parametrize(
    ("expected", "generated", "value"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris", "It is Paris, of course.", 1.0),
        ("Paris", "It is paris.", 0.0),
        ("Paris, France", "Paris in France", 0.0),
        ("cat", "concatenate", 1.0),
        ("Paris", "", 0.0),
        ("東京", "答えは東京です", 1.0),
    ],
)
def test_cases(expected: str, generated: str, value: float) -> None:
    assert asyncio.run(score(Sample("q", expected, generated), no_judge)) == {"score": value}


def test_an_empty_expected_answer_says_nothing() -> None:
    with pytest.raises(CannotScoreError, match="empty"):
        asyncio.run(score(Sample("q", "", "anything"), no_judge))

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

import pytest

from paddock.evaluation.schemas import BasicScoringFnParams
from paddock.evaluation.scoring.docvqa import DOCVQA, folded
from paddock.evaluation.scoring.function import CannotScoreError, Sample


async def no_judge(_: str) -> str:
    raise AssertionError


def scored(generated: str, expected: str) -> dict[str, Any]:
    return asyncio.run(DOCVQA.prepare(BasicScoringFnParams(), "").score(Sample("q", expected, generated), no_judge))


@pytest.mark.parametrize(
    ("generated", "expected", "score", "anls"),
    [
        ("Paris", "paris", 1.0, 1.0),
        (" The  Hague", "the hague", 1.0, 1.0),
        ("The Hague.", "the hague", 1.0, 0.9),  # ANLS counts the full stop and quotes
        ('"1,250"', "1,250", 1.0, 1 - 2 / 7),
        ("Ｐａｒｉｓ", "Paris", 1.0, 0.0),
        ("Pariss", "Paris", 0.0, 1 - 1 / 6),
        ("Rome", "Paris", 0.0, 0.0),
        ("abcd", "abxy", 0.0, 0.5),
        ("abcde", "abxyz", 0.0, 0.0),
        ("paris", json.dumps(["Paris", "Paris, France"]), 1.0, 1.0),
        ("paris france", json.dumps(["Paris", "Paris, France"]), 0.0, 1 - 1 / 13),
        ("[1, 2]", "[1, 2]", 1.0, 1.0),  # a list, but not of texts: the text itself
    ],
)
def test_cases(generated: str, expected: str, score: float, anls: float) -> None:
    assert scored(generated, expected) == {"score": score, "anls": pytest.approx(anls)}


def test_anls_is_one_less_the_edit_distance_over_the_longer_length() -> None:
    """Against the recurrence of the distance itself."""

    def distance(a: str, b: str) -> int:
        @cache
        def of(i: int, j: int) -> int:
            if not i or not j:
                return i + j
            return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

        return of(len(a), len(b))

    words = ["invoice", "in voice", "invoices", "voice", "2024-03-05", "2024-03-15", "total due", "total", "x", "äöü"]
    for generated in words:
        for expected in words:
            similarity = 1 - distance(folded(generated), folded(expected)) / max(len(generated), len(expected))
            assert scored(generated, expected)["anls"] == pytest.approx(similarity if similarity >= 0.5 else 0.0)


def test_an_empty_expected_answer_is_a_failed_row() -> None:
    with pytest.raises(CannotScoreError, match="empty"):
        scored("x", " . ")

from __future__ import annotations

import asyncio

import pytest

from paddock.evaluation.scoring.equality import score
from paddock.evaluation.scoring.function import Sample


async def no_judge(_: str) -> str:
    raise AssertionError


@pytest.mark.parametrize(
    ("expected", "generated", "value"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris", "paris", 0.0),
        ("Paris", "Paris ", 0.0),
        ("Paris", "Paris\n", 0.0),
        ("Paris", "The answer is Paris", 0.0),
        ("", "", 1.0),
        ("42", "42", 1.0),
        ("42", "42.0", 0.0),
        ("é", "e\u0301", 0.0),
        ("日本", "日本", 1.0),
    ],
)
def test_cases(expected: str, generated: str, value: float) -> None:
    assert asyncio.run(score(Sample("q", expected, generated), no_judge)) == {"score": value}

"""Word overlap, against SQuAD's measures written out anew, BLEU and ROUGE counted by hand."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from typing import Any

import pytest

from paddock.evaluation.schemas import BasicScoringFnParams
from paddock.evaluation.scoring.function import Sample
from paddock.evaluation.scoring.text_overlap import TEXT_OVERLAP


async def no_judge(_: str) -> str:
    raise AssertionError


def scored(function: str, generated: str, expected: str) -> dict[str, Any]:
    scorer = TEXT_OVERLAP[function].prepare(BasicScoringFnParams(), "")
    return asyncio.run(scorer.score(Sample("q", expected, generated), no_judge))


@pytest.mark.parametrize(
    ("generated", "expected", "exact", "f1"),
    [
        ("The cat.", "cat", 1.0, 1.0),
        ("a CAT sat", "the cat sat!", 1.0, 1.0),
        ("cat", "dog", 0.0, 0.0),
        ("the big cat", "cat", 0.0, 2 / 3),
        ("cat cat", "cat", 0.0, 2 / 3),
        ("sat cat", "cat sat", 0.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
    ],
)
def test_squad(generated: str, expected: str, exact: float, f1: float) -> None:
    assert scored("text::exact_match", generated, expected)["score"] == exact
    assert scored("text::f1", generated, expected)["score"] == pytest.approx(f1)


def test_f1_against_counting_pairs() -> None:
    """Words are struck off one against one, which is another way to say what a multiset's intersection is."""
    words = ["the", "cat", "Cat,", "sat", "on", "a", "mat.", "dog"]
    draw = random.Random(5)
    for _ in range(100):
        generated, expected = (" ".join(draw.choices(words, k=draw.randint(1, 7))) for _ in range(2))
        given, gold = (
            [w for w in re.sub(r"[,.]", "", text.lower()).split() if w not in ("a", "an", "the")]
            for text in (generated, expected)
        )
        left, num_shared = list(gold), 0
        for word in given:
            if word in left:
                left.remove(word)
                num_shared += 1
        value = 2 * num_shared / (len(given) + len(gold)) if given and gold else float(given == gold)
        assert scored("text::f1", generated, expected)["score"] == pytest.approx(value), (generated, expected)


def test_bleu() -> None:
    same = "The dog bit the man."
    assert scored("text::bleu", same, same)["score"] == pytest.approx(100)
    # By hand, "The dog bit the woman ." against it: 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 of four.
    value = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    assert scored("text::bleu", "The dog bit the woman.", same)["score"] == pytest.approx(value)
    assert scored("text::bleu", "", same)["score"] == 0


def test_chrf() -> None:
    same = "The dog bit the man."
    assert scored("text::chrf", same, same)["score"] == pytest.approx(100)
    values = [scored("text::chrf", text, same)["score"] for text in ("The dog bit a man.", "A cat.", "")]
    assert all(a > b for a, b in itertools.pairwise(values))
    assert values[-1] == 0


def test_rouge() -> None:
    # One word of four and five in common in order: "the quick brown fox" and "the brown fox jumps high"
    found = scored("text::rouge", "the brown fox jumps high", "the quick brown fox")
    assert found == {
        "score": pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4)),
        "rouge1": pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4)),
        "rouge2": pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3)),
    }

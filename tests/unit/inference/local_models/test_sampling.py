"""Penalties, limits and draws, against what their formulas give."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from paddock.inference.local_models.sampling import Knobs, choose, penalize

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def knobs(
    *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0, repetition_penalty: float = 1.0
) -> Knobs:
    return Knobs(temperature, top_k, top_p, repetition_penalty, random.Random(seed))


def frequencies(knob: Knobs, num_draws: int = 4000) -> dict[int, float]:
    counts = Counter(choose(LOGITS.repeat(num_draws, 1), [knob] * num_draws).tolist())
    return {token: count / num_draws for token, count in counts.items()}


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        (knobs(), [0.5, 0.3, 0.15, 0.05]),
        (knobs(temperature=0), [1.0]),
        (knobs(top_k=2), [0.625, 0.375]),
        (knobs(top_k=1), [1.0]),
        (knobs(top_k=99), [0.5, 0.3, 0.15, 0.05]),
        # 0.5 + 0.3 reach 0.8: the third is not needed any more.
        (knobs(top_p=0.8), [0.625, 0.375]),
        (knobs(top_p=0.81), [10 / 19, 6 / 19, 3 / 19]),
        (knobs(top_p=0.0001), [1.0]),
        # Among the first two, the first alone holds 0.625 already.
        (knobs(top_k=2, top_p=0.6), [1.0]),
        # p ** (1 / T): squares for one half.
        (knobs(temperature=0.5), [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
    ],
)
def test_draws_follow_the_distribution(knob: Knobs, expected: list[float]) -> None:
    found = frequencies(knob)
    assert found.keys() <= set(range(len(expected)))
    for token, probability in enumerate(expected):
        # Five standard deviations of a proportion.
        assert found.get(token, 0) == pytest.approx(
            probability, abs=5 * (probability * (1 - probability) / 4000) ** 0.5
        )


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    alone = [int(choose(LOGITS[None].clone(), [knobs(seed=seed, top_p=0.9)])[0]) for seed in range(50)]
    rows = [knobs(seed=seed, top_p=0.9) for seed in range(50)]
    mixed = [knob for row in rows for knob in (row, knobs(temperature=0), knobs(temperature=2.0, top_k=3))]
    assert choose(LOGITS.repeat(150, 1), mixed)[::3].tolist() == alone
    assert len(set(alone)) > 1


def test_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = torch.tensor([2.0, -2.0, 3.0, 0.0])
    assert penalize(logits, [0, 1, 0, 3], 2.0).tolist() == [1.0, -4.0, 3.0, 0.0]
    assert logits.tolist() == [2.0, -2.0, 3.0, 0.0]

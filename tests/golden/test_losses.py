"""Losses as literals and against formulas written out in float64, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from paddock.post_training import losses

MARGINS = [-3.0, -0.5, 0.0, 0.25, 2.0, 30.0]
BETA = 0.1

GOLDEN = {
    # -log σ(β h), max(0, 1 - β h), (h - 1/(2β))²; worked out by hand with Python's math.
    "sigmoid": [
        0.8543552444685272,
        0.7184596480132863,
        0.6931471805599453,
        0.6807253035255248,
        0.5981388693815918,
        0.048587351573742,
    ],
    "hinge": [1.3, 1.05, 1.0, 0.975, 0.8, 0.0],
    "ipo": [64.0, 30.25, 25.0, 22.5625, 9.0, 625.0],
}

ORACLE = {
    "sigmoid": (lambda h: math.log1p(math.exp(-BETA * h)), lambda h: -BETA / (1 + math.exp(BETA * h))),
    "hinge": (lambda h: max(0.0, 1 - BETA * h), lambda h: -BETA if BETA * h < 1 else 0.0),
    "ipo": (lambda h: (h - 5.0) ** 2, lambda h: 2 * (h - 5.0)),
}


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_preference_losses(name: str) -> None:
    margins_P = torch.tensor(MARGINS, dtype=torch.float64, requires_grad=True)
    values_P = losses.LOSSES[name](margins_P, BETA)
    values_P.sum().backward()
    value, slope = ORACLE[name]
    assert values_P.tolist() == pytest.approx(GOLDEN[name], rel=1e-12)
    assert values_P.tolist() == pytest.approx([value(h) for h in MARGINS], rel=1e-12)
    assert margins_P.grad is not None
    assert margins_P.grad.tolist() == pytest.approx([slope(h) for h in MARGINS], rel=1e-12)


def test_token_log_probs_are_of_the_targets_alone() -> None:
    logits_NV = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    assert losses.token_log_probs(logits_NV, torch.tensor([1, 0])).tolist() == pytest.approx(
        [math.log(0.75), math.log(0.5)]
    )


def test_sequences_are_summed_not_averaged() -> None:
    is_target_BT = torch.tensor([[False, True, True], [True, False, False]])
    sums_B = losses.sequence_log_probs(torch.tensor([-1.0, -2.0, -4.0]), is_target_BT)
    assert sums_B.tolist() == [-3.0, -4.0]

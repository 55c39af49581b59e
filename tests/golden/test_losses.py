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


@pytest.mark.parametrize("name", sorted(losses.MARGIN_LOSSES))
def test_losses_of_the_margin(name: str) -> None:
    # Only the difference counts, wherever the two log-ratios lie.
    log_ratios_P2 = torch.tensor([[h + 0.5, 0.5] for h in MARGINS], dtype=torch.float64, requires_grad=True)
    values_P = losses.MARGIN_LOSSES[name](log_ratios_P2, BETA)
    values_P.sum().backward()
    value, slope = ORACLE[name]
    assert values_P.tolist() == pytest.approx(GOLDEN[name], rel=1e-12)
    assert values_P.tolist() == pytest.approx([value(h) for h in MARGINS], rel=1e-12)
    assert log_ratios_P2.grad is not None
    assert log_ratios_P2.grad[:, 0].tolist() == pytest.approx([slope(h) for h in MARGINS], rel=1e-12)
    assert log_ratios_P2.grad[:, 1].tolist() == pytest.approx([-slope(h) for h in MARGINS], rel=1e-12)


LOG_RATIOS = [(0.0, 0.0), (1.5, -2.0), (-3.0, 4.0), (20.0, -35.0)]


def _kto_pair(log_ratios: list[tuple[float, float]], kl: tuple[float, float], beta: float) -> list[float]:
    def value(x: float) -> float:
        return 1 - 1 / (1 + math.exp(-x))

    return [(value(beta * (chosen - kl[1])) + value(beta * (kl[0] - rejected))) / 2 for chosen, rejected in log_ratios]


def test_kto_pair() -> None:
    log_ratios_P2 = torch.tensor(LOG_RATIOS, dtype=torch.float64, requires_grad=True)
    kl_2 = losses.kl_estimate(log_ratios_P2)
    # The mean of the chosen; that of the rejected is below 0, which no divergence is.
    assert kl_2.tolist() == [pytest.approx(18.5 / 4), 0.0]
    values_P = losses.kto_pair(log_ratios_P2, kl_2, BETA)
    values_P.sum().backward()
    golden = [0.4431964611, 0.4013741998, 0.5294113005, 0.0689317979]
    assert values_P.tolist() == pytest.approx(golden, rel=1e-8)
    kl = (18.5 / 4, 0.0)
    assert values_P.tolist() == pytest.approx(_kto_pair(LOG_RATIOS, kl, BETA), rel=1e-12)
    # The gradient, by differences with the divergences held where they are: nothing flows through them.
    step = 1e-6
    assert log_ratios_P2.grad is not None
    for pair in range(len(LOG_RATIOS)):
        for side in range(2):
            moved = [[list(ratios) for ratios in LOG_RATIOS] for _ in range(2)]
            moved[0][pair][side] += step
            moved[1][pair][side] -= step
            up, down = (sum(_kto_pair([tuple(r) for r in ratios], kl, BETA)) for ratios in moved)
            assert log_ratios_P2.grad[pair, side].item() == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_losses_hold_in_float32() -> None:
    """What the loop computes in, against float64: values and gradients within 1e-6."""
    kl_2 = torch.tensor([0.3, 0.1])
    for name in ("sigmoid", "hinge", "kto_pair"):
        seen = []
        for dtype in (torch.float32, torch.float64):
            log_ratios_P2 = torch.tensor([[h, -h / 2] for h in MARGINS], dtype=dtype, requires_grad=True)
            if name == "kto_pair":
                values_P = losses.kto_pair(log_ratios_P2, kl_2.to(dtype), BETA)
            else:
                values_P = losses.MARGIN_LOSSES[name](log_ratios_P2, BETA)
            values_P.sum().backward()
            seen.append((values_P.detach().double(), log_ratios_P2.grad.double()))
        torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-6)


def test_token_log_probs_are_of_the_targets_alone() -> None:
    logits_NV = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    assert losses.token_log_probs(logits_NV, torch.tensor([1, 0])).tolist() == pytest.approx(
        [math.log(0.75), math.log(0.5)]
    )


def test_answers_are_summed_not_averaged() -> None:
    sums_M = losses.answer_log_probs(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([2, 1]))
    assert sums_M.tolist() == [-3.0, -4.0]

"""Rates by step, and what each optimiser does to a weight, against formulas written out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import Parameter

from paddock.post_training import optimizers
from paddock.post_training.config import Optimizer


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]),
        ("constant", [0.05, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ("cosine", [0.05, 0.1, *(0.05 * (1 + math.cos(math.pi * done / 4)) for done in range(4))]),
    ],
)
def test_warm_up_then_schedule(schedule: str, rates: list[float]) -> None:
    config = Optimizer("adamw", 0.1, 0.0, num_warmup_steps=2, lr_schedule=schedule, max_grad_norm=None)
    assert [optimizers.learning_rate(step, 6, config) for step in range(6)] == pytest.approx(rates, rel=1e-12)


def _adam(weight: float, grad: float, decay: float) -> float:
    return weight - 0.1 * (grad + decay * weight) / (abs(grad + decay * weight) + 1e-8)


# The first step from zero moments, where the bias corrections cancel the betas.
FIRST_STEP: dict[str, Callable[[float, float, float], float]] = {
    "sgd": lambda weight, grad, decay: weight - 0.1 * (grad + decay * weight),
    "adam": _adam,
    "adamw": lambda weight, grad, decay: _adam(weight * (1 - 0.1 * decay), grad, 0.0),
}


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_one_step(name: str) -> None:
    matrix, bias = Parameter(torch.tensor([[2.0]])), Parameter(torch.tensor([2.0]))
    config = Optimizer(name, 0.1, weight_decay=0.5, num_warmup_steps=0, lr_schedule="constant", max_grad_norm=None)
    optimizer = optimizers.make([matrix, bias], config)
    matrix.grad, bias.grad = torch.tensor([[3.0]]), torch.tensor([3.0])
    optimizer.step()
    assert matrix.item() == pytest.approx(FIRST_STEP[name](2.0, 3.0, 0.5), rel=1e-6)
    assert bias.item() == pytest.approx(FIRST_STEP[name](2.0, 3.0, 0.0), rel=1e-6)


def test_gradients_are_scaled_together_down_to_the_norm() -> None:
    parameters = [Parameter(torch.zeros(1)), Parameter(torch.zeros(1))]
    for max_norm, expected in ((None, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
        assert optimizers.clip(parameters, max_norm).item() == 5.0
        grads = [p.grad.item() for p in parameters if p.grad is not None]
        assert grads == pytest.approx(expected, rel=1e-5)

"""Optimisers and learning rates. Their states and the weights that they change are float32 always."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from paddock.post_training.config import Optimizer
from paddock.post_training.sharding import whole

OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
"""The contract's `optimizer_type`, with torch's defaults: betas 0.9 and 0.999, no momentum in SGD. Weight decay is
AdamW's decoupled one, and an L2 term of the gradient in the others."""


def make(parameters: Iterable[Parameter], config: Optimizer) -> Any:
    """The optimiser. Biases, norms and other weights of one dimension are not decayed."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return OPTIMIZERS[config.optimizer_type]([group for group in groups if group["params"]], lr=config.lr, fused=True)


def make_scaler(compute: torch.dtype, device: torch.device) -> Any:
    """What keeps gradients in float16 from vanishing: losses are scaled up, gradients down again, and a step whose
    gradients overflow is left out, with a smaller scale from there on. For other types it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=compute is torch.float16)


def learning_rate(step: int, total: int, config: Optimizer) -> float:
    """The rate of step `step` (from 0) of `total`.

    The warm-up rises in equal parts to the full rate, which its last step has. Then `linear` falls in equal parts towards
    0, `cosine` along half a wave, `constant` stays; the rate after the last step would be 0."""
    if step < config.num_warmup_steps:
        return config.lr * (step + 1) / config.num_warmup_steps
    if config.lr_schedule == "constant":
        return config.lr
    done = (step - config.num_warmup_steps) / max(1, total - config.num_warmup_steps)
    if config.lr_schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr * (1 - done)


def clip(parameters: list[Parameter], max_norm: float | None) -> Tensor:
    """Scale all gradients together down to `max_norm` if they are over it. Returns their norm before."""
    return whole(torch.nn.utils.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm))

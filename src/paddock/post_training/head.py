"""The output layer and the cross-entropy in one, some tokens at a time: the logits of all of them never lie side by side.

What the backward pass needs is computed along with the loss, while the logits are at hand.

Shapes: N tokens that bear a loss, n of them at a time; V words of the vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_TOKENS_AT_ONCE = 1024
"""The weights' gradient is added up after each: fewer tokens would make that dearer than the products."""

_IN_CACHE = 64
"""So many tokens' logits are gone over again while they are near the processor."""


def is_last(model: Any) -> bool:
    """Whether a causal language model's logits are just what comes out of its output layer."""
    made: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda _layer, _inputs, output: made.append(output))
    try:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[0, 1]]), use_cache=False).logits
    finally:
        hook.remove()
    return bool(torch.equal(logits, made[0]))


def is_product(layer: nn.Module) -> bool:
    """Whether a layer is a product with its weights and nothing more: no adapter on it, no rounding, no bias."""
    return type(layer) is nn.Linear and layer.bias is None


@contextmanager
def left_out(layer: nn.Module) -> Iterator[None]:
    """Inside, the output layer hands on what it is given, so that a model's `logits` are hidden states."""
    layer.forward = lambda hidden: hidden
    try:
        yield
    finally:
        del layer.forward


def log_probs(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target) of each token, in float32; the products are in the type of `hidden_NH`. Returns N."""
    found: Tensor = _LogProbs.apply(hidden_NH, weight_VH, targets_N, torch.is_grad_enabled())
    return found


class _LogProbs(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, has_backward: bool) -> Tensor:
        by_hidden, by_weight, *_ = (has_backward and needed for needed in ctx.needs_input_grad)
        log_probs_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_NH.device)
        d_hidden_NH = torch.empty_like(hidden_NH) if by_hidden else None
        d_weight_VH = torch.zeros_like(weight_VH) if by_weight else None
        product_VH = weight_VH.to(hidden_NH.dtype)
        for start in range(0, len(targets_N), _TOKENS_AT_ONCE):
            part = slice(start, start + _TOKENS_AT_ONCE)
            logits_nV = hidden_NH[part] @ product_VH.t()
            log_probs_N[part] = _log_probs_and_slopes(logits_nV, targets_N[part])
            if d_hidden_NH is not None:
                torch.mm(logits_nV, product_VH, out=d_hidden_NH[part])
            if d_weight_VH is not None:
                d_weight_VH += logits_nV.t() @ hidden_NH[part]
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, d_hidden_NH, d_weight_VH)
        return log_probs_N

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, targets_N, d_hidden_NH, d_weight_VH = ctx.saved_tensors
        if d_hidden_NH is not None:
            d_hidden_NH = d_hidden_NH * gradient_N[:, None].to(d_hidden_NH.dtype)
        if d_weight_VH is not None:
            if (gradient_N == gradient_N[0]).all():
                # All tokens weigh the same, as in supervised fine-tuning.
                d_weight_VH = d_weight_VH * gradient_N[0]
            else:
                d_weight_VH = _weighed(hidden_NH, weight_VH, targets_N, gradient_N)
        return d_hidden_NH, d_weight_VH, None, None


def _log_probs_and_slopes(logits_nV: Tensor, targets_n: Tensor) -> Tensor:
    """log p(target); `logits_nV` become its derivative by them, which is 1 at the target less p. Returns n."""
    log_probs = []
    for logits, targets in zip(logits_nV.split(_IN_CACHE), targets_n[:, None].split(_IN_CACHE), strict=True):
        slopes = logits.float()
        slopes -= slopes.amax(dim=1, keepdim=True)
        log_p = slopes.gather(1, targets)
        total = slopes.exp_().sum(dim=1, keepdim=True)
        log_probs.append((log_p - total.log())[:, 0])
        slopes *= -1 / total
        slopes.scatter_add_(1, targets, torch.ones_like(log_p))
        logits.copy_(slopes)
    return torch.cat(log_probs)


def _weighed(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, gradient_N: Tensor) -> Tensor:
    """The weights' gradient where each token has a weight of its own."""
    d_weight_VH = torch.zeros_like(weight_VH)
    product_VH = weight_VH.to(hidden_NH.dtype)
    for hidden_nH, targets_n, gradient_n in zip(
        *(tensor.split(_TOKENS_AT_ONCE) for tensor in (hidden_NH, targets_N, gradient_N)), strict=True
    ):
        logits_nV = hidden_nH @ product_VH.t()
        _log_probs_and_slopes(logits_nV, targets_n)
        d_weight_VH += (logits_nV * gradient_n[:, None].to(logits_nV.dtype)).t() @ hidden_nH
    return d_weight_VH

"""Linear layers that read the same input as one product, as queries, keys and values do: one call, and an input that is
rounded is rounded once.

Shapes: I numbers of an input, O of an output.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import nn

from paddock.inference.local_models.trace import is_once, trace


class _Product(nn.Module):  # type: ignore[misc]  # torch is not followed
    """All layers of a group in one. On each thread it remembers the last output, until the last layer has its part."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self._sizes = [linear.out_features for linear in linears]
        self.linear = nn.Linear(linears[0].in_features, sum(self._sizes))
        with torch.no_grad():
            self.linear.weight.copy_(torch.cat([linear.weight for linear in linears]))
            self.linear.bias.copy_(
                torch.cat(
                    [torch.zeros(linear.out_features) if linear.bias is None else linear.bias for linear in linears]
                )
            )
        self._here = threading.local()

    def part(self, x: torch.Tensor, index: int) -> torch.Tensor:
        if index == 0:
            self._here.parts = self.linear(x).split(self._sizes, dim=-1)
        part: torch.Tensor = self._here.parts[index]
        if index == len(self._sizes) - 1:
            del self._here.parts
        return part


class Part(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Stands in the place of one layer of a group. The group's layers are called in their order, with the same input."""

    def __init__(self, product: _Product, index: int) -> None:
        super().__init__()
        self.product = product
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product.part(x, self._index)


def join(layers: nn.Module, run: Callable[[], object]) -> dict[str, nn.Linear]:
    """Join the linear layers that `run`, which computes a pack, gives the same input one after the other. Returns those that
    others took the places of. A layer that runs in several places stays as it is."""
    steps = trace(layers, run)
    names = {module: name for name, module in layers.named_modules()}
    replaced = {}
    for _, same in itertools.groupby(steps, key=lambda step: id(step.inputs[0])):
        linears = [step.module for step in same if isinstance(step.module, nn.Linear)]
        if len(linears) > 1 and all(is_once(linear, steps) for linear in linears):
            product = _Product(linears)
            for index, linear in enumerate(linears):
                replaced[names[linear]] = linear
                layers.set_submodule(names[linear], Part(product, index))
    return replaced

"""The last layer of an encoder whose head reads the first token of each text alone: behind its attention, the rows of those
tokens are all that is computed. All that stands there works token by token, so it changes nothing of what is read.

Shapes: T tokens of a pack, S rows that are computed of them, I numbers of an input, O of an output.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import nn

from paddock.inference.local_models import segments
from paddock.inference.local_models.trace import trace

_MULTIPLE = 16
"""So many rows at a time are computed: a product of few rows may be summed in another order than one of many."""


class FirstRows(threading.local):
    """Where the texts of the pack begin that this thread computes, filled up to a multiple of `_MULTIPLE`."""

    rows_S: torch.Tensor | None = None

    def begin_at(self, starts: torch.Tensor) -> None:
        fill = -len(starts) % _MULTIPLE
        self.rows_S = torch.cat([starts, starts[:1].expand(fill)]).long()


class Narrow(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer that computes the first rows of texts; zeros stand in the others."""

    def __init__(self, linear: nn.Linear, first_rows: FirstRows) -> None:
        super().__init__()
        self.linear = linear
        self._first_rows = first_rows

    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        rows_S = self._first_rows.rows_S
        assert rows_S is not None
        y_1SO: torch.Tensor = self.linear(x_1TI[:, rows_S])
        return y_1SO.new_zeros(1, x_1TI.shape[1], y_1SO.shape[2]).index_copy_(1, rows_S, y_1SO)


def narrow(layers: nn.Module, run: Callable[[], object], first_rows: FirstRows) -> dict[str, nn.Linear]:
    """Change what stands behind the last attention, and the queries of it, in layers of which `run` computes a pack. Returns
    the linear layers that others took the places of. Changes none where layers are shared: what is narrow in one place would
    be narrow in all."""
    order = [step.module for step in trace(layers, run)]
    attention = max((index for index, module in enumerate(order) if not isinstance(module, nn.Linear)), default=None)
    if attention is None or any(order.count(module) > 1 for module in order[attention:]):
        return {}
    segments.read_first_queries(order[attention])
    behind = set(order[attention + 1 :])
    replaced = {
        name: module for name, module in layers.named_modules() if isinstance(module, nn.Linear) and module in behind
    }
    for name, linear in replaced.items():
        layers.set_submodule(name, Narrow(linear, first_rows))
    return replaced

"""In which order the linear layers and the attentions of an encoder run, and on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from paddock.inference.local_models import segments


class Step(NamedTuple):
    """A layer with what it was given and what it made of it, or a module whose attention was computed, with its queries,
    keys and values."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor | None = None


def trace(layers: nn.Module, run: Callable[[], object], *kinds: type[nn.Module]) -> list[Step]:
    """The steps of `run`, which computes a pack, by layers of these kinds (linear ones, if none is named) and by attentions.
    What comes after it, as a pooler does, is not among them."""
    steps: list[Step] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if inputs[0].ndim == 3:  # a pack, of shape (1, T, D); a pooler has one row of it
            steps.append(Step(module, inputs, output))

    hooks = [
        module.register_forward_hook(note) for module in layers.modules() if type(module) in (kinds or (nn.Linear,))
    ]
    try:
        with segments.watched(lambda module, *inputs: steps.append(Step(module, inputs))):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return steps


def is_once(module: nn.Module, steps: list[Step]) -> bool:
    """Whether the module runs in one place."""
    return sum(step.module is module for step in steps) == 1

"""In which order the linear layers and the attentions of an encoder run, and on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from paddock.inference.local_models import segments


class Step(NamedTuple):
    """A linear layer with what it was given, or a module whose attention was computed."""

    module: nn.Module
    input: torch.Tensor | None


def trace(layers: nn.Module, run: Callable[[], object]) -> list[Step]:
    """The steps of `run`, which computes a pack. What comes after it, as a pooler does, is not among them."""
    steps: list[Step] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].ndim == 3:  # a pack, of shape (1, T, D); a pooler has one row of it
            steps.append(Step(module, inputs[0]))

    hooks = [module.register_forward_pre_hook(note) for module in layers.modules() if type(module) is nn.Linear]
    try:
        with segments.watched(lambda module: steps.append(Step(module, None))):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return steps

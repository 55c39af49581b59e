"""Fewer passes over what oneDNN's linear layers put out: they compute the activation that follows on the way, and in
bfloat16 they make nothing float32 that the next reader would round again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import GELUActivation

from paddock.inference.local_models import onednn
from paddock.inference.local_models.trace import Step, is_once, trace


def fuse(layers: nn.Module, run: Callable[[], object]) -> None:
    """Fuse what follows oneDNN's linear layers with them, in layers of which `run` computes a pack."""
    steps = trace(layers, run, onednn.Linear, GELUActivation, nn.GELU)
    names = {module: name for name, module in layers.named_modules()}
    for before, between, after in zip(steps, steps[1:], steps[2:], strict=False):
        algorithm = _gelu(between.module)
        if (
            algorithm is not None
            and isinstance(before.module, onednn.Linear)
            and isinstance(after.module, onednn.Linear)
            and before.output is between.inputs[0]
            and between.output is after.inputs[0]
            and is_once(before.module, steps)
            and is_once(between.module, steps)
        ):
            before.module.activation, before.module.algorithm = "gelu", algorithm
            before.module.is_widened = False
            layers.set_submodule(names[between.module], nn.Identity())
    for step in steps:
        if step.output is None:
            for linear in _sources(step, steps):
                linear.is_widened = False


def _gelu(module: nn.Module) -> str | None:
    """How GELU is computed, if the module does that and no more."""
    if isinstance(module, nn.GELU):
        return "tanh" if module.approximate == "tanh" else "none"
    is_gelu = isinstance(module, GELUActivation) and module.act is nn.functional.gelu
    return "none" if is_gelu else None


def _sources(attention: Step, steps: list[Step]) -> list[onednn.Linear]:
    """The linear layers whose outputs, as they stand, an attention's queries, keys and values are; none, if any of them was
    computed otherwise."""
    sources = []
    for tensor in attention.inputs:
        found = [
            step.module
            for step in steps
            if isinstance(step.module, onednn.Linear) and step.output is not None and _is_part(tensor, step.output)
        ]
        if not found:
            return []
        sources += found
    return sources


def _is_part(tensor: torch.Tensor, whole: torch.Tensor) -> bool:
    return bool(tensor.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr())

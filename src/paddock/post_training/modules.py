"""Which linear layers LoRA goes on, and which can be quantised, told by names and shapes alone: at submission from a
weights file's header, in the job from the model itself. Loads no tensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from paddock.errors import FieldError
from paddock.post_training.config import Lora

_ALIASES = {"output_proj": "o_proj"}
"""torchtune's name → Hugging Face's, where they differ."""

_ATTENTION = ("attn", "attention")
_MLP = ("mlp", "feed_forward", "ffn")
_MLP_LAYERS = ("fc1", "fc2")  # OPT's stand in the block itself
_OUTPUT = ("lm_head", "embed_out", "output_layer")

WITHOUT_LINEAR_LAYERS = ("gpt2", "openai-gpt")
"""Kinds of models (`model_type`) whose layers are transformers' own `Conv1D`."""

_MAX_HEADER_BYTES = 100 * 1024 * 1024  # the format's own bound


def linear_layers(folder: Path) -> dict[str, tuple[int, int]]:
    """A model's layers with a two-dimensional weight, and its shape, from its safetensors headers. Raises `ValueError`, with
    the reason, for files that are none, or not whole."""
    shapes: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as weights:
            length = int.from_bytes(weights.read(8), "little")
            text = weights.read(min(length, _MAX_HEADER_BYTES))
        try:
            tensors = {name: t for name, t in json.loads(text).items() if name != "__metadata__"}
            end = max((t["data_offsets"][1] for t in tensors.values()), default=0)
            shapes |= {
                name.removesuffix(".weight"): tuple(t["shape"])
                for name, t in tensors.items()
                if name.endswith(".weight") and len(t["shape"]) == 2
            }
        except (ValueError, AttributeError, LookupError, TypeError):
            raise ValueError("its weights are no safetensors") from None
        if file.stat().st_size != 8 + length + end:
            raise ValueError(f"{file.name} is not whole")
    return shapes


def is_target(name: str, targets: Iterable[str]) -> bool:
    """Whether PEFT puts an adapter on the layer `name` for these `target_modules`."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def inputs_that_groups_do_not_divide(shapes: Mapping[str, tuple[int, int]], group_size: int) -> set[int]:
    """The numbers of inputs of the attention's and the MLP's layers that are no multiple of `group_size`."""
    return {
        num_inputs
        for name, (_, num_inputs) in shapes.items()
        if (_is_within(name, (*_ATTENTION, *_MLP)) or _last(name) in _MLP_LAYERS) and num_inputs % group_size
    }


def lora_targets(names: Iterable[str], lora: Lora, pointer: str) -> tuple[list[str], list[FieldError]]:
    """PEFT's `target_modules` for a model whose linear layers are called `names`, and what is wrong with the request.

    `pointer` is where the LoRA configuration stands in the request."""
    names = list(names)
    attention = [name for name in names if _is_within(name, _ATTENTION)]
    known = sorted({_last(name) for name in attention})
    chosen: set[str] = set()
    errors = []
    for index, asked in enumerate(lora.attn_modules):
        module = asked if asked in known else _ALIASES.get(asked, asked)
        found = {name for name in attention if _last(name) == module}
        if not found:
            message = (
                f"The model's attention has no module {asked!r}; it has {', '.join(known) or 'none that is linear'}."
            )
            errors.append(FieldError(f"{pointer}/lora_attn_modules/{index}", message))
        chosen |= found
    if lora.mlp:
        found = {name for name in names if _is_within(name, _MLP) or _last(name) in _MLP_LAYERS}
        if not found:
            errors.append(FieldError(f"{pointer}/apply_lora_to_mlp", "The model has no MLP with linear layers."))
        chosen |= found
    if lora.output:
        found = {name for name in names if _last(name) in _OUTPUT}
        if not found:
            message = (
                "The model has no output layer of its own: it is tied to the embeddings, "
                "which an adapter on it would change when it is merged."
            )
            errors.append(FieldError(f"{pointer}/apply_lora_to_output", message))
        chosen |= found
    return _suffixes(chosen, names), errors


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_within(name: str, words: tuple[str, ...]) -> bool:
    """Whether a part of the path above the layer itself speaks of one of `words`."""
    parents = name.split(".")[:-1]
    return any(word in part.lower() for part in parents for word in words)


def _suffixes(chosen: set[str], names: list[str]) -> list[str]:
    """The shortest endings of names that match what is chosen and nothing else (GPT-2 has a `c_proj` in both parts)."""
    others = [name for name in names if name not in chosen]
    found = set()
    for name in chosen:
        parts = name.split(".")
        endings = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        found.add(next(e for e in endings if not any(o == e or o.endswith(f".{e}") for o in others)))
    return sorted(found)

"""Quantisation-aware training by torchao: linear layers compute with rounded weights while the exact ones are trained.

What is saved is converted: the rounded weights themselves, which give the very same numbers. All linear layers are
rounded but the output layer, which may be tied to the embeddings.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup
from torchao.quantization.qat import QATConfig
from transformers import TorchAoConfig
from transformers.quantizers.auto import AutoHfQuantizer

from paddock.errors import InvalidRequestError
from paddock.post_training.config import Qat


def prepare(model: Any, qat: Qat, model_id: str) -> None:
    """Make the model's linear layers compute as if their weights were rounded. Raises `InvalidRequestError`."""
    layers = _layers(model)
    if not layers:
        raise InvalidRequestError(
            f"The model {model_id} has no linear layers of a kind that can be quantised.", pointer="/algorithm_config"
        )
    unfit = sorted({layer.in_features for layer in layers.values() if layer.in_features % qat.group_size})
    if unfit:
        raise InvalidRequestError(
            f"group_size must divide the inputs of every linear layer: {', '.join(map(str, unfit))}.",
            pointer="/algorithm_config/group_size",
        )
    quantize_(model, QATConfig(_torchao(qat), step="prepare"), lambda _module, name: name in layers)


def save(model: Any, qat: Qat, folder: Path) -> None:
    """Write the rounded weights of a prepared model, as plain transformers loads them."""
    converted(model, qat).save_pretrained(folder, max_shard_size="1000TB")
    _sort_metadata(folder / "model.safetensors")


def converted(model: Any, qat: Qat) -> Any:
    """A copy of a prepared model with the rounded weights in place of the exact ones."""
    model = copy.deepcopy(model)
    quantize_(model, QATConfig(_torchao(qat), step="convert"))
    output_layer = _output_layer(model)
    saved_as = TorchAoConfig(_torchao(qat), modules_to_not_convert=[output_layer] if output_layer else None)
    model.config.quantization_config = saved_as
    model.hf_quantizer = AutoHfQuantizer.from_config(saved_as, pre_quantized=True)
    return model


def _sort_metadata(file: Path) -> None:
    """The library writes a file's metadata, an entry for each weight here, in another order each time: the same weights
    must be the same bytes."""
    with file.open("r+b") as weights:
        length = int.from_bytes(weights.read(8), "little")
        header = json.loads(weights.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        weights.seek(8)
        weights.write(text.ljust(length))


def _layers(model: Any) -> dict[str, nn.Linear]:
    output_layer = _output_layer(model)
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != output_layer}


def _output_layer(model: Any) -> str | None:
    return next((name for name, m in model.named_modules() if m is model.get_output_embeddings()), None)


def _torchao(qat: Qat) -> Any:
    granularity = PerGroup(qat.group_size)
    weights = torch.int8 if qat.quantizer == "int8" else torch.int4
    if qat.quantizer == "int8_dynamic_int4":
        return Int8DynamicActivationIntxWeightConfig(weight_dtype=weights, weight_granularity=granularity)
    return IntxWeightOnlyConfig(weight_dtype=weights, granularity=granularity)

"""A frozen base in four bits under an adapter, by bitsandbytes. NF4 is of Dettmers et al. 2023, arXiv:2305.14314."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import BitsAndBytesConfig


def loading(compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """The arguments of `from_pretrained` that round the linear layers' weights, all but the output layer's, as it loads."""
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    return {"quantization_config": nf4, "device_map": {"": device}}


def keep_as_loaded(model: Any) -> None:
    """On a CPU with bfloat16 the library packs weights anew at the first use without gradients, and rounds their scales on
    the way: after a validation the base would be another one. So it must not."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False

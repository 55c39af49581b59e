"""Attention within the rows of a pack: they stand one behind the other, and each looks at itself alone.

Registered with transformers under two names, for the models that let their attention be chosen; `encoder` sets them. The
rows are told by `cu_seq_lens_q`, as flash attention has it: where each begins, and where the last one ends.

Shapes: T tokens of the pack, H heads, D numbers of a head, L tokens of one row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

EXACT = "paddock_segments"
"""In float32, as torch's own attention computes it."""

FAST = "paddock_segments_bf16"
"""Products in bfloat16, sums of a softmax in float32: half the time of torch's own."""

_BEYOND = ("sliding_window", "softcap", "position_bias", "s_aux")
"""Kinds of attention that are more than a softmax over the whole row."""


class UnsupportedAttentionError(Exception):
    """The model's attention is of a kind that this module does not compute."""


def _exact(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The heads' outputs, of shape (1, T, H, D), as transformers wants them."""
    rows = [
        scaled_dot_product_attention(query_1HLD, key_1HLD, value_1HLD, scale=scaling).transpose(1, 2)
        for query_1HLD, key_1HLD, value_1HLD in _rows(module, query_1HTD, key_1HTD, value_1HTD, attention_mask, options)
    ]
    return torch.cat(rows, dim=1), None


def _fast(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As `_exact`, to the precision of bfloat16."""
    query_1HTD = (query_1HTD * (query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling)).bfloat16()
    key_1HTD, value_1HTD = key_1HTD.bfloat16(), value_1HTD.bfloat16()
    rows = []
    for query_1HLD, key_1HLD, value_1HLD in _rows(module, query_1HTD, key_1HTD, value_1HTD, attention_mask, options):
        scores_HLL = torch.bmm(query_1HLD[0], key_1HLD[0].transpose(1, 2))
        weights_HLL = scores_HLL.softmax(dim=-1, dtype=torch.float32).bfloat16()
        rows.append(torch.bmm(weights_HLL, value_1HLD[0]).transpose(0, 1))
    return torch.cat(rows).float().unsqueeze(0), None


def _rows(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    options: dict[str, Any],
) -> Iterator[tuple[torch.Tensor, ...]]:
    beyond = [name for name in _BEYOND if options.get(name) is not None]
    if (
        beyond
        or attention_mask is not None
        or query_1HTD.shape != key_1HTD.shape
        or getattr(module, "is_causal", False)
    ):
        raise UnsupportedAttentionError(f"{type(module).__name__} ({', '.join(beyond) or 'mask, heads or direction'})")
    ends = options["cu_seq_lens_q"].tolist()
    for start, end in itertools.pairwise(ends):
        yield tuple(tensor[:, :, start:end] for tensor in (query_1HTD, key_1HTD, value_1HTD))


AttentionInterface.register(EXACT, _exact)
AttentionInterface.register(FAST, _fast)

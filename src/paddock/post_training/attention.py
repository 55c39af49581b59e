"""Attention of rows that lie one after another in one sequence, each within itself: no padding, and no mask over them all.

A model is switched to it once; where its rows begin and end comes with each call. It is for CPUs: on a GPU so many small
products would cost more than the padding.

Shapes: T tokens of all rows, n of one; H heads of queries, K of keys and values, of size D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

_NAME = "row_by_row"

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}

_MAX_PRODUCTS = 512
"""Rows of up to so many tokens are faster in bfloat16 by plain products, forward and backward, than by torch's fused
attention: three times at 128, one and a half times at 512 (torch 2.13, AVX-512)."""

_PROBE_LENGTHS = (3, 2, 4)


def use(model: Any) -> bool:
    """Switch a causal language model to attention row by row. False, and nothing is changed, for one that attends in a way
    that is not known here, or in which rows of one sequence know of each other by other means."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or _KNOWN_LAYERS)
    if not getattr(model, "_supports_attention_backend", False) or not kinds <= _KNOWN_LAYERS:
        return False
    before = model.config._attn_implementation
    apart_BT = torch.arange(1, 1 + len(_PROBE_LENGTHS) * max(_PROBE_LENGTHS)).view(len(_PROBE_LENGTHS), -1)
    rows = [ids_T[:length] for ids_T, length in zip(apart_BT, _PROBE_LENGTHS, strict=True)]
    with torch.no_grad():
        logits_BTV = model(input_ids=apart_BT, use_cache=False).logits
        model.set_attn_implementation(_NAME)
        try:
            joined, other = (
                model(
                    input_ids=torch.cat([first, *rows[1:]])[None], use_cache=False, **arguments(_PROBE_LENGTHS)
                ).logits[0]
                for first in (rows[0], rows[0].flip(0))
            )
        except (TypeError, ValueError):
            model.set_attn_implementation(before)
            return False
    apart = torch.cat([logits[:length] for logits, length in zip(logits_BTV, _PROBE_LENGTHS, strict=True)])
    is_same = (joined - apart).norm() <= torch.finfo(apart.dtype).eps ** 0.5 * apart.norm()
    keeps_apart = torch.equal(joined[_PROBE_LENGTHS[0] :], other[_PROBE_LENGTHS[0] :])
    if not (is_same and keeps_apart):
        model.set_attn_implementation(before)
        return False
    return True


def arguments(lengths: Sequence[int]) -> dict[str, Tensor]:
    """What a model is given beside the tokens of rows of these lengths."""
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    return {"position_ids": torch.cat([torch.arange(n) for n in lengths])[None], "cu_seq_lens_q": bounds}


def row_by_row(
    module: Any,
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """The attention of one layer, in transformers' form; returns (1, T, H, D). Raises `ValueError` for a kind that it does
    not know. `cu_seq_lens_q` are the places where rows begin, and the end."""
    if attention_mask is not None or softcap is not None or s_aux is not None or position_bias is not None:
        raise ValueError("attention of another kind")
    if not getattr(module, "is_causal", True):
        raise ValueError("attention that looks ahead")
    lengths = cu_seq_lens_q.diff().tolist()
    # Where whole weights are trained, positions make float32 of queries and keys.
    states = (query_1HTD.to(value_1KTD.dtype), key_1KTD.to(value_1KTD.dtype), value_1KTD)
    window = sliding_window or max(lengths)
    attended = [
        _attend(query_1HnD, key_1KnD, value_1KnD, scaling, dropout, window).transpose(1, 2)
        for query_1HnD, key_1KnD, value_1KnD in zip(*(state.split(lengths, dim=2) for state in states), strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _attend(
    query_1HnD: Tensor, key_1KnD: Tensor, value_1KnD: Tensor, scaling: float, dropout: float, window: int
) -> Tensor:
    length = query_1HnD.shape[2]
    num_shared = query_1HnD.shape[1] // key_1KnD.shape[1]
    if query_1HnD.dtype is torch.bfloat16 and length <= _MAX_PRODUCTS:
        if num_shared > 1:
            key_1KnD, value_1KnD = (states.repeat_interleave(num_shared, dim=1) for states in (key_1KnD, value_1KnD))
        mask_nn = torch.full((length, length), -torch.inf, dtype=query_1HnD.dtype)
        mask_nn = mask_nn.triu(1) + mask_nn.tril(-window) if window < length else mask_nn.triu_(1)
        scores_Hnn = torch.baddbmm(mask_nn, query_1HnD[0], key_1KnD[0].transpose(1, 2), alpha=scaling)
        weights_Hnn = drop(scores_Hnn.softmax(dim=-1), dropout, training=dropout > 0)
        return torch.bmm(weights_Hnn, value_1KnD[0])[None]
    is_visible_nn = None
    if window < length:
        is_visible_nn = torch.ones(length, length, dtype=torch.bool).tril_().triu_(1 - window)
    return scaled_dot_product_attention(
        *(query_1HnD, key_1KnD, value_1KnD),
        attn_mask=is_visible_nn,
        dropout_p=dropout,
        is_causal=is_visible_nn is None,
        scale=scaling,
        enable_gqa=num_shared > 1,
    )


AttentionInterface.register(_NAME, row_by_row)

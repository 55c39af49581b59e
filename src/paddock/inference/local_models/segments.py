"""Attention within the rows of a pack: they stand one behind the other, and each looks at itself alone.

Registered with transformers under two names, for the models that let their attention be chosen; `encoder` sets them. The
rows are told by `cu_seq_lens_q`, as flash attention has it: where each begins, and where the last one ends.

Shapes: T tokens of the pack, H heads, D numbers of a head, L tokens of one row.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
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


_READS_FIRST_QUERIES = "paddock_reads_first_queries"

_watcher: ContextVar[Callable[..., object] | None] = ContextVar("watcher", default=None)


class UnsupportedAttentionError(Exception):
    """The model's attention is of a kind that this module does not compute."""


@contextlib.contextmanager
def watched(watcher: Callable[..., object]) -> Iterator[None]:
    """Within it, `watcher` is called with each module whose attention is computed, its queries, keys and values."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def read_first_queries(module: torch.nn.Module, alone: bool = True) -> None:
    """From now on this module's attention is computed for the first token of each row alone, and zeros stand in the others;
    or for all, if not `alone`."""
    setattr(module, _READS_FIRST_QUERIES, alone)


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
    _check(module, query_1HTD, key_1HTD, value_1HTD, attention_mask, options)
    found_1THD = _empty(module, query_1HTD)
    # Kernels read a head whose tokens stand one behind the other a sixth faster.
    query_1HTD, key_1HTD, value_1HTD = query_1HTD.contiguous(), key_1HTD.contiguous(), value_1HTD.contiguous()
    for queries, row in _rows(module, options):
        found_1HLD = scaled_dot_product_attention(
            query_1HTD[:, :, queries], key_1HTD[:, :, row], value_1HTD[:, :, row], scale=scaling
        )
        found_1THD[:, queries] = found_1HLD.transpose(1, 2)
    return found_1THD, None


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
    _check(module, query_1HTD, key_1HTD, value_1HTD, attention_mask, options)
    found_1THD = _empty(module, query_1HTD)
    query_1HTD = (query_1HTD * (query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling)).bfloat16()
    key_1HTD, value_1HTD = key_1HTD.bfloat16(), value_1HTD.bfloat16()
    for queries, row in _rows(module, options):
        scores_HLL = torch.bmm(query_1HTD[0, :, queries], key_1HTD[0, :, row].transpose(1, 2))
        weights_HLL = scores_HLL.softmax(dim=-1, dtype=torch.float32).bfloat16()
        found_1THD[0, queries] = torch.bmm(weights_HLL, value_1HTD[0, :, row]).transpose(0, 1)
    return found_1THD, None


def _empty(module: torch.nn.Module, query_1HTD: torch.Tensor) -> torch.Tensor:
    shape = query_1HTD.transpose(1, 2).shape
    return query_1HTD.new_zeros(shape) if getattr(module, _READS_FIRST_QUERIES, False) else query_1HTD.new_empty(shape)


def _check(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    options: dict[str, Any],
) -> None:
    beyond = [name for name in _BEYOND if options.get(name) is not None]
    if (
        beyond
        or attention_mask is not None
        or query_1HTD.shape != key_1HTD.shape
        or getattr(module, "is_causal", False)
    ):
        raise UnsupportedAttentionError(f"{type(module).__name__} ({', '.join(beyond) or 'mask, heads or direction'})")
    if watcher := _watcher.get():
        watcher(module, query_1HTD, key_1HTD, value_1HTD)


def _rows(module: torch.nn.Module, options: dict[str, Any]) -> Iterator[tuple[slice, slice]]:
    """Of each row, the queries that are answered, and all of it."""
    for start, end in itertools.pairwise(options["cu_seq_lens_q"].tolist()):
        yield slice(start, start + 1 if getattr(module, _READS_FIRST_QUERIES, False) else end), slice(start, end)


AttentionInterface.register(EXACT, _exact)
AttentionInterface.register(FAST, _fast)

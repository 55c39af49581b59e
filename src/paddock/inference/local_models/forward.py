"""One pass of a causal language model over rows that are padded on the left, the same for every architecture.

Shapes: B rows, T columns, V tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from paddock.errors import BackendError


def pad_left(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask (1 where a column is a token of the row's own), all rows ending at the last column."""
    num_columns = max(len(ids) for ids in rows)
    ids_BT = torch.tensor([[0] * (num_columns - len(ids)) + ids for ids in rows], device=device)
    mask_BT = torch.tensor([[0] * (num_columns - len(ids)) + [1] * len(ids) for ids in rows], device=device)
    return ids_BT, mask_BT


def forward(
    model: torch.nn.Module, ids_BT: torch.Tensor, mask_BT: torch.Tensor, *, num_logits: int, cache: Any, use_cache: bool
) -> tuple[torch.Tensor, Any]:
    """The float32 logits of the last `num_logits` columns, and the cache that now holds `ids_BT` too.

    `mask_BT` covers the cache's columns and those of `ids_BT`; a row's positions count its own tokens. Raises
    `BackendError` if the logits are not numbers."""
    positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
    optional = {"position_ids": positions_BT, "logits_to_keep": num_logits}
    accepted = _parameters(type(model).forward)
    output = model(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        past_key_values=cache,
        use_cache=use_cache,
        **{name: value for name, value in optional.items() if name in accepted},
    )
    logits_BTV = output.logits[:, -num_logits:].float()
    if logits_BTV.isnan().any():
        raise BackendError("The model computes values that are not numbers; its weights may be damaged.")
    return logits_BTV, output.past_key_values


def has_cache(model: torch.nn.Module) -> bool:
    """Whether `forward` knows how to go on with a model's text: some recurrent ones keep their past in their own way."""
    return "past_key_values" in _parameters(type(model).forward)


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    # Some architectures have positions built in, and some old ones always give all logits.
    return frozenset(inspect.signature(function).parameters)

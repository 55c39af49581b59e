"""One pass of a causal language model over rows that are padded on the left, the same for every architecture.

Shapes: B rows, T columns, V tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
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
    model: torch.nn.Module,
    ids_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    num_logits: int,
    cache: Any,
    use_cache: bool,
    offsets: Sequence[int] = (),
    images: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, Any]:
    """The float32 logits of the last `num_logits` columns, and the cache that now holds `ids_BT` too.

    `mask_BT` covers the cache's columns and those of `ids_BT`; a row's positions count its own tokens, on from its offset
    where there are `offsets`. `images` are what a processor made of those of a single row, whose positions the model
    then counts by itself (`position_offset`). Raises `BackendError` if the logits are not numbers."""
    optional: dict[str, Any] = {"logits_to_keep": num_logits}
    if not images:
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        if any(offsets):
            positions_BT = positions_BT + torch.tensor(offsets, device=positions_BT.device).unsqueeze(1)
        optional["position_ids"] = positions_BT
    accepted = _parameters(type(model).forward)
    output = model(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        past_key_values=cache,
        use_cache=use_cache,
        **{name: value for name, value in optional.items() if name in accepted},
        **(images or {}),
    )
    logits_BTV = output.logits[:, -num_logits:].float()
    if logits_BTV.isnan().any():
        raise BackendError("The model computes values that are not numbers; its weights may be damaged.")
    return logits_BTV, output.past_key_values


def position_offset(model: Any) -> int:
    """After a pass over a row with images: what is to be added to the count of its tokens for the positions of those that
    follow. Some models count an image by its height and width, not by its tokens (M-RoPE, Wang et al. 2024, section
    2.1, https://arxiv.org/abs/2409.12191)."""
    deltas = getattr(model.base_model, "rope_deltas", None)
    return 0 if deltas is None else int(deltas)


def has_cache(model: torch.nn.Module) -> bool:
    """Whether `forward` knows how to go on with a model's text: some recurrent ones keep their past in their own way, and
    others look back at an encoder's output, or an image's, at each token."""
    accepted = _parameters(type(model).forward)
    return "past_key_values" in accepted and not accepted & {"decoder_input_ids", "cross_attention_mask"}


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    # Some architectures have positions built in, and some old ones always give all logits.
    return frozenset(inspect.signature(function).parameters)

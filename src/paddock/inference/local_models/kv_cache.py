"""The rows of a key/value cache, as sequences come and go: keep some, join others, copy how one began, cut what no row needs
any more.

Sequences are padded on the left, so all of them end at the same column. Shapes: B rows, H heads, T columns, D width.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


def is_joinable(cache: Cache) -> bool:
    """Whether every layer keeps plain keys and values for all columns. Sliding windows and recurrent states do not:
    what they hold depends on the columns around them, so rows of another length cannot stand beside it."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def keep_rows(cache: Cache, mask_BT: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Keep only `rows` of the cache, one that is named twice in two copies, and cut leading columns that are padding in all
    of them. Returns their mask."""
    index = torch.tensor(rows, device=mask_BT.device)
    cache.reorder_cache(index)
    mask_BT = mask_BT[index]
    if is_joinable(cache):
        num_padding = int(mask_BT.argmax(dim=1).min())
        if num_padding:
            mask_BT = mask_BT[:, num_padding:]
            for layer in cache.layers:
                layer.keys = layer.keys[:, :, num_padding:].contiguous()
                layer.values = layer.values[:, :, num_padding:].contiguous()
    return mask_BT


def join(cache: Cache, mask_BT: torch.Tensor, other: Cache, other_mask_BT: torch.Tensor) -> torch.Tensor:
    """Put the rows of `other` under those of `cache`; the shorter ones are padded on the left. Returns the mask."""
    num_columns = max(mask_BT.shape[1], other_mask_BT.shape[1])
    for layer, joining in zip(cache.layers, other.layers, strict=True):
        layer.keys = torch.cat([_pad_columns(layer.keys, num_columns), _pad_columns(joining.keys, num_columns)])
        layer.values = torch.cat([_pad_columns(layer.values, num_columns), _pad_columns(joining.values, num_columns)])
    return torch.cat([pad(mask, (num_columns - mask.shape[1], 0)) for mask in (mask_BT, other_mask_BT)])


def beginning(
    cache: Cache, mask_BT: torch.Tensor, row: int, num_columns: int, *, num_copies: int
) -> tuple[Cache, torch.Tensor]:
    """So many copies of the first columns of one row's own, as a cache without padding and its mask. The cache is one that
    `is_joinable`."""
    start = int(mask_BT[row].argmax())
    columns = slice(start, start + num_columns)
    copies = DynamicCache()
    for index, layer in enumerate(cache.layers):
        keys, values = (
            states_BHTD[row : row + 1, :, columns].expand(num_copies, -1, -1, -1)
            for states_BHTD in (layer.keys, layer.values)
        )
        copies.update(keys, values, index)
    return copies, mask_BT[row : row + 1, columns].expand(num_copies, -1)


def _pad_columns(states_BHTD: torch.Tensor, num_columns: int) -> torch.Tensor:
    return pad(states_BHTD, (0, 0, num_columns - states_BHTD.shape[2], 0))

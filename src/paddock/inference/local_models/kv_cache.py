"""The rows of a key/value cache, as sequences come and go: keep some, put others in the places of those that ended, copy
how one began, cut what no row needs any more. And layers with room for the tokens to come.

Sequences are padded on the left, so all of them end at the same column. Shapes: B rows, H heads, T columns, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_MIN_ROOM = 32


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not followed
    """Keys and values with room behind them: a token's are written there, where `DynamicLayer` copies all that there are,
    for each token. `keys` and `values` are views of what is held."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self.hold(layer.keys, layer.values)

    def hold(self, keys_BHTD: torch.Tensor, values_BHTD: torch.Tensor) -> None:
        """Take these in, in place of what was held."""
        self._end = keys_BHTD.shape[2]
        num_columns = self._end + max(self._end // 4, _MIN_ROOM)
        held = keys_BHTD, values_BHTD
        self._rooms = [s.new_empty(s.shape[0], s.shape[1], num_columns, s.shape[3]) for s in held]
        self.keys, self.values = (room[:, :, : self._end].copy_(s) for room, s in zip(self._rooms, held, strict=True))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DynamicLayer`."""
        num_new = key_states.shape[2]
        if self._end + num_new > self._rooms[0].shape[2]:
            self.hold(torch.cat([self.keys, key_states], dim=2), torch.cat([self.values, value_states], dim=2))
            return self.keys, self.values
        start, end = self._end - self.keys.shape[2], self._end + num_new
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, self._end : end] = states
        self._end = end
        self.keys, self.values = (room[:, :, start:end] for room in self._rooms)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """See `DynamicLayer`."""
        self.hold(self.keys.index_select(0, beam_idx), self.values.index_select(0, beam_idx))


def is_joinable(cache: Cache) -> bool:
    """Whether every layer keeps plain keys and values for all columns. Sliding windows and recurrent states do not:
    what they hold depends on the columns around them, so rows of another length cannot stand beside it."""
    return all(type(layer) in (DynamicLayer, RoomyLayer) for layer in cache.layers)


def give_room(cache: Cache) -> None:
    """Have the layers that keep plain keys and values hold them with room behind."""
    cache.layers = [RoomyLayer(layer) if type(layer) is DynamicLayer else layer for layer in cache.layers]


def keep_rows(cache: Cache, mask_BT: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Keep only `rows` of the cache, one that is named twice in two copies. Returns their mask."""
    index = torch.tensor(rows, device=mask_BT.device)
    cache.reorder_cache(index)
    return mask_BT[index]


def cut_padding(cache: Cache, mask_BT: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Cut leading columns that are padding in all of `rows`, if the cache's layers have columns. Returns the mask."""
    num_padding = int(mask_BT[rows].argmax(dim=1).min())
    if num_padding == 0 or not is_joinable(cache):
        return mask_BT
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[:, :, num_padding:], layer.values[:, :, num_padding:]
    return mask_BT[:, num_padding:]


def join(
    cache: Cache, mask_BT: torch.Tensor, other: Cache, other_mask_BT: torch.Tensor, free: list[int]
) -> torch.Tensor:
    """Put the rows of `other` in the places of the `free` ones of `cache`, in this order, and what is left of them under its
    rows; the shorter ones are padded on the left. `cache` has room (`give_room`). Returns the mask."""
    num_columns = max(mask_BT.shape[1], other_mask_BT.shape[1])
    for layer, joining in zip(cache.layers, other.layers, strict=True):
        keys = _joined(layer.keys, joining.keys, num_columns, free)
        values = _joined(layer.values, joining.values, num_columns, free)
        if keys is not layer.keys:
            layer.hold(keys, values)
    mask_BT, other_mask_BT = (pad(mask, (num_columns - mask.shape[1], 0)) for mask in (mask_BT, other_mask_BT))
    places = free[: len(other_mask_BT)]
    mask_BT[places] = other_mask_BT[: len(places)]
    return torch.cat([mask_BT, other_mask_BT[len(places) :]])


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


def _joined(states_BHTD: torch.Tensor, joining_BHTD: torch.Tensor, num_columns: int, free: list[int]) -> torch.Tensor:
    """The same tensor, written into, if that is enough."""
    states_BHTD = _pad_columns(states_BHTD, num_columns)
    places = free[: len(joining_BHTD)]
    # What is left of a place's former row, before them, is masked.
    states_BHTD[places, :, num_columns - joining_BHTD.shape[2] :] = joining_BHTD[: len(places)]
    under_BHTD = joining_BHTD[len(places) :]
    return torch.cat([states_BHTD, _pad_columns(under_BHTD, num_columns)]) if len(under_BHTD) else states_BHTD


def _pad_columns(states_BHTD: torch.Tensor, num_columns: int) -> torch.Tensor:
    num_missing = num_columns - states_BHTD.shape[2]
    return pad(states_BHTD, (0, 0, num_missing, 0)) if num_missing else states_BHTD

"""Rows of a cache that stay, come and go; what is cut off is padding of all."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicCache

from paddock.inference.local_models import kv_cache


def cache_of(*lengths: int) -> tuple[DynamicCache, torch.Tensor]:
    """Rows of these lengths, padded on the left by zeros; the states of row r count r, r + 0.01 …"""
    num_columns = max(lengths)
    states = torch.zeros(len(lengths), 2, num_columns, 4)
    mask = torch.zeros(len(lengths), num_columns, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, num_columns - length :] = 1
        states[row, :, num_columns - length :] = (row + 1 + torch.arange(length) / 100)[None, :, None]
    cache = DynamicCache(config=LlamaConfig(num_hidden_layers=2))
    for layer in range(2):
        cache.update(states.clone(), -states, layer)
    return cache, mask


def rows(cache: DynamicCache, mask: torch.Tensor) -> list[list[float]]:
    """What each row holds, without its padding; keys and values of both layers agree."""
    for layer in cache.layers:
        assert torch.equal(layer.keys, -layer.values)
        assert layer.keys.shape[:3] == (mask.shape[0], 2, mask.shape[1])
    held = cache.layers[1].keys[:, 0, :, 0]
    return [[round(float(value), 2) for value in held[row][mask[row].bool()]] for row in range(mask.shape[0])]


@pytest.mark.parametrize("has_room", [False, True])
def test_rows_are_kept_and_the_padding_of_all_is_cut(has_room: bool) -> None:
    cache, mask = cache_of(5, 2, 3)
    if has_room:
        kv_cache.give_room(cache)
    assert kv_cache.cut_padding(cache, mask, [1, 2]).tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 1]]
    cache, mask = cache_of(5, 2, 3)
    if has_room:
        kv_cache.give_room(cache)
    mask = kv_cache.cut_padding(cache, kv_cache.keep_rows(cache, mask, [1, 2]), [0, 1])
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert rows(cache, mask) == [[2.0, 2.01], [3.0, 3.01, 3.02]]


@pytest.mark.parametrize("free", [[], [1], [1, 0], [0, 1, 2]])
@pytest.mark.parametrize("lengths", [((4, 2, 1), (3,)), ((2, 2, 1), (5, 1)), ((3, 3, 3), (2, 3))])
def test_joining(lengths: tuple[tuple[int, ...], tuple[int, ...]], free: list[int]) -> None:
    (cache, mask), (other, other_mask) = (cache_of(*each) for each in lengths)
    kv_cache.give_room(cache)
    expected, joining = rows(cache, mask), rows(other, other_mask)
    for place in free:
        if joining:
            expected[place] = joining.pop(0)
    mask = kv_cache.join(cache, mask, other, other_mask, free)
    assert mask.shape[1] == max(map(max, lengths))
    assert rows(cache, mask) == expected + joining


def test_a_layer_with_room_holds_what_one_without_does() -> None:
    """Through tokens one by one and several at once, past the end of its room, and cuts in between."""
    cache, mask = cache_of(5, 2)
    plain, _ = cache_of(5, 2)
    kv_cache.give_room(cache)
    torch.manual_seed(0)
    for num_new in [1] * 50 + [7, 90, 1]:
        new = torch.randn(2, 2, num_new, 4)
        for layer in range(2):
            held = cache.update(new, -new, layer)
            expected = plain.update(new, -new, layer)
            assert all(torch.equal(a, b[:, :, -a.shape[2] :]) for a, b in zip(held, expected, strict=True))
        mask = torch.cat([mask, torch.ones(2, num_new, dtype=torch.long)], dim=1)
        if mask.shape[1] % 10 == 0:
            mask[:, 0] = 0
            mask = kv_cache.cut_padding(cache, mask, [0, 1])
    assert rows(cache, mask)
    assert cache.get_seq_length() == mask.shape[1]


def test_how_a_row_began_is_copied_without_its_padding() -> None:
    cache, mask = cache_of(5, 3)
    copies, copied_mask = kv_cache.beginning(cache, mask, 1, 2, num_copies=3)
    assert rows(copies, copied_mask) == [[2.0, 2.01]] * 3
    kv_cache.give_room(cache)
    mask = kv_cache.join(cache, mask, copies, copied_mask, [])
    assert rows(cache, mask) == [[1.0, 1.01, 1.02, 1.03, 1.04], [2.0, 2.01, 2.02], *[[2.0, 2.01]] * 3]


def test_a_sliding_window_is_not_joinable() -> None:
    plain, _ = cache_of(3)
    assert kv_cache.is_joinable(plain)
    sliding = DynamicCache(config=MistralConfig(num_hidden_layers=2, sliding_window=8))
    assert not kv_cache.is_joinable(sliding)

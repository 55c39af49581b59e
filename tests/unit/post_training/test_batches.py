from __future__ import annotations

from array import array

import torch
from hypothesis import given
from hypothesis import strategies as st

from paddock.post_training import batches
from paddock.post_training.tokens import IGNORED, TokenizedRow

_lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(_lengths, st.integers(1, 8), st.integers(1, 4), st.booleans(), st.integers(0, 3))
def test_an_epoch_has_every_row_once_and_its_order_is_a_function_of_the_seed(
    lengths: list[int], batch_size: int, accumulated: int, shuffle: bool, epoch: int
) -> None:
    def steps() -> list[list[list[int]]]:
        return batches.steps_of_epoch(lengths, batch_size, accumulated, shuffle=shuffle, seed=5, epoch=epoch)

    taken = [number for step in steps() for batch in step for number in batch]
    assert sorted(taken) == list(range(len(lengths)))
    assert steps() == steps()
    assert len(steps()) == batches.num_steps(len(lengths), batch_size, accumulated, None)
    if not shuffle:
        assert taken == list(range(len(lengths)))


@given(_lengths, st.booleans())
def test_packs_hold_every_row_whole(lengths: list[int], shuffle: bool) -> None:
    packs = batches.pack_rows(lengths, 64, shuffle=shuffle, seed=1)
    assert sorted(number for pack in packs for number in pack) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in pack) <= 64 for pack in packs)


def test_two_epochs_differ() -> None:
    first, second = (batches.steps_of_epoch([1] * 100, 10, 1, shuffle=True, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first != second


def test_collated_packs_count_positions_anew() -> None:
    rows = [
        TokenizedRow(i, array("i", [i + 1] * n), array("i", [IGNORED, *[i + 1] * (n - 1)]), is_truncated=False)
        for i, n in enumerate([2, 3, 4])
    ]
    batch = batches.collate(rows, [(0, 1), (2,)], pad_id=0)
    assert batch.ids_BT.tolist() == [[1, 1, 2, 2, 2], [3, 3, 3, 3, 0]]
    assert batch.positions_BT is not None
    assert batch.positions_BT.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]]
    assert (batch.num_tokens, batch.num_labels, batch.row_indices) == (9, 6, (0, 1, 2))
    assert batches.collate(rows, [(0,), (2,)], pad_id=0).positions_BT is None
    assert torch.equal(batch.labels_BT[1], torch.tensor([IGNORED, 3, 3, 3, IGNORED]))

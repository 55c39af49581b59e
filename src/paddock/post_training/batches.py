"""Which rows stand together in which step, and their padding. The order is a pure function of seed and epoch, so that a
job that goes on after a kill meets the same batches.

Shapes: B sequences in a batch, T tokens in the longest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.post_training.tokens import IGNORED, TokenizedRow

_BATCHES_SORTED_TOGETHER = 16
"""Shuffled rows are sorted by length among so many batches' worth of them: little padding, and chance enough."""

_OPEN_PACKS = 32

Pack = tuple[int, ...]
"""The numbers of the rows that share one sequence: one row, unless packed."""


@dataclass(frozen=True)
class Batch:
    """Sequences padded at the right, `is_real_BT` where they are not. `positions_BT` counts anew at each row of a pack, and
    is None without packs. `members` are the numbers of the rows, in their order; `row_indices` their places in the dataset,
    `member_labels` how many tokens of each bear a loss, `member_lengths` how many it has. `num_tokens` is without padding. A
    spare batch is one of which nothing counts: a worker without a share of its own goes through it to keep step with the
    others."""

    ids_BT: Tensor
    labels_BT: Tensor
    is_real_BT: Tensor
    positions_BT: Tensor | None
    members: tuple[int, ...]
    row_indices: tuple[int, ...]
    member_labels: tuple[int, ...]
    member_lengths: tuple[int, ...]
    num_tokens: int
    is_spare: bool = False

    @property
    def num_labels(self) -> int:
        """Tokens that bear a loss."""
        return sum(self.member_labels)


def single(num_rows: int) -> list[Pack]:
    """Each row a sequence of its own."""
    return [(number,) for number in range(num_rows)]


def pack_rows(lengths: Sequence[int], capacity: int, *, shuffle: bool, seed: int) -> list[Pack]:
    """Rows joined to sequences of at most `capacity` tokens, each row whole and in one of them.

    Shuffled rows go into the first of a few open packs that has room; otherwise a pack is closed by the first row that
    does not fit, so that their order stays."""
    order = list(range(len(lengths)))
    if shuffle:
        random.Random(f"pack {seed}").shuffle(order)
    packs: list[list[int]] = []
    rooms: list[int] = []
    for number in order:
        first_open = max(0, len(packs) - (_OPEN_PACKS if shuffle else 1))
        place = next((p for p in range(first_open, len(packs)) if rooms[p] >= lengths[number]), None)
        if place is None:
            place = len(packs)
            packs.append([])
            rooms.append(capacity)
        packs[place].append(number)
        rooms[place] -= lengths[number]
    return [tuple(members) for members in packs]


def steps_of_epoch(
    lengths: Sequence[int], batch_size: int, num_accumulated: int, *, shuffle: bool, seed: int, epoch: int
) -> list[list[list[int]]]:
    """The optimiser steps of an epoch over all sequences: each a list of batches, each a list of sequences' numbers.

    Nothing is dropped: the last batch and the last step may be short."""
    order = list(range(len(lengths)))
    if shuffle:
        rng = random.Random(f"epoch {seed} {epoch}")
        rng.shuffle(order)
        window = batch_size * _BATCHES_SORTED_TOGETHER
        for start in range(0, len(order), window):
            order[start : start + window] = sorted(order[start : start + window], key=lambda n: lengths[n])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if shuffle:
        rng.shuffle(batches)
    return [batches[start : start + num_accumulated] for start in range(0, len(batches), num_accumulated)]


def num_steps(num_sequences: int, batch_size: int, num_accumulated: int, max_steps: int | None) -> int:
    """Optimiser steps in each epoch."""
    num_batches = -(-num_sequences // batch_size)
    whole = -(-num_batches // num_accumulated)
    return whole if max_steps is None else min(whole, max_steps)


def collate(rows: Sequence[TokenizedRow], packs: Sequence[Pack], pad_id: int) -> Batch:
    """The tensors of some sequences, given by the numbers of their `rows`."""
    lengths = [sum(len(rows[number]) for number in pack) for pack in packs]
    shape = (len(packs), max(lengths))
    ids_BT = torch.full(shape, pad_id, dtype=torch.long)
    labels_BT = torch.full(shape, IGNORED, dtype=torch.long)
    is_real_BT = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    is_packed = any(len(pack) > 1 for pack in packs)
    positions_BT = torch.zeros(shape, dtype=torch.long) if is_packed else None
    for b, pack in enumerate(packs):
        start = 0
        for number in pack:
            row = rows[number]
            end = start + len(row)
            ids_BT[b, start:end] = torch.frombuffer(row.ids, dtype=torch.int32)
            labels_BT[b, start:end] = torch.frombuffer(row.labels, dtype=torch.int32)
            if positions_BT is not None:
                positions_BT[b, start:end] = torch.arange(len(row))
            start = end
        if positions_BT is not None:
            # Padding counts as one more row, so that no real one sees it.
            positions_BT[b, start:] = torch.arange(shape[1] - start)
    members = tuple(number for pack in packs for number in pack)
    return Batch(
        ids_BT=ids_BT,
        labels_BT=labels_BT,
        is_real_BT=is_real_BT,
        positions_BT=positions_BT,
        members=members,
        row_indices=tuple(rows[number].index for number in members),
        member_labels=tuple(len(rows[number]) - rows[number].labels.count(IGNORED) for number in members),
        member_lengths=tuple(len(rows[number]) for number in members),
        num_tokens=sum(lengths),
    )

"""What a training will take of memory, told before its first step: what a short forward pass leaves behind, on the scale of
the largest batch.

A formula would know one architecture. What autograd keeps of any model, adapter, fake rounding or type is told by itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paddock.post_training import sharding
from paddock.post_training.adapters import Trainee
from paddock.post_training.batches import collate
from paddock.post_training.tokens import IGNORED, TokenizedRow

_PROBE_TOKENS = 32

_LOGIT_COPIES = 4
"""Logits, their log-probabilities, and a gradient of each are there at once."""

_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 0}
"""What an optimiser keeps of each trained weight, in its own type."""

_ALLOCATOR_SHARE = {"cpu": 1.5, "cuda": 1.0}
"""What the C library keeps of freed tensors, between others that are not, comes to half of what is used."""


@dataclass(frozen=True)
class Kept:
    """Bytes that are kept from the forward to the backward pass: once (rounded or converted weights), for each place of a
    sequence, and in its logits for each token that bears a loss."""

    once: float
    per_place: float
    per_label: float


def probe(trainee: Trainee, row: TokenizedRow) -> Kept:
    """What autograd keeps of a few of the row's tokens, and of twice as many. Draws no random numbers, and changes nothing:
    dropout and computing anew are for training, offloading is left out."""
    trainee = replace(trainee, offload=None)
    was_training = trainee.model.training
    trainee.model.eval()
    ids = (row.ids * _PROBE_TOKENS)[: 2 * _PROBE_TOKENS]
    few, few_logits = _kept(trainee, ids[:_PROBE_TOKENS])
    many, _ = _kept(trainee, ids)
    trainee.model.train(was_training)
    per_place = (many - few) / _PROBE_TOKENS
    return Kept(few - per_place * _PROBE_TOKENS, per_place, few_logits / (_PROBE_TOKENS // 2))


def _kept(trainee: Trainee, ids: array[int]) -> tuple[int, int]:
    """Bytes that the backward pass of one sequence waits for, apart from the weights themselves and logits; and those of
    the logits. Its last few tokens bear a loss."""
    labels = array("i", [IGNORED] * len(ids))
    labels[-_PROBE_TOKENS // 2 :] = ids[-_PROBE_TOKENS // 2 :]
    num_words: int = trainee.model.get_output_embeddings().weight.shape[0]
    weights = {_address(t) for t in (*trainee.model.parameters(), *trainee.model.buffers())}
    others: dict[int, int] = {}
    logits: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address not in weights:
            found = logits if tensor.dim() and tensor.shape[-1] == num_words else others
            found[address] = tensor.untyped_storage().nbytes()
        return tensor

    batch = collate([TokenizedRow(0, ids, labels, is_truncated=False)], [(0,)], 0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_probs, _ = trainee.log_probs(batch)  # as long as these live, so does all that was kept, at its address
    del log_probs
    return sum(others.values()), sum(logits.values())


def _address(tensor: Tensor) -> int:
    return sharding.local(tensor).untyped_storage().data_ptr()


def peak_bytes(
    trainee: Trainee,
    held: int,
    steps: Iterable[Sequence[Sequence[TokenizedRow]]],
    *,
    optimizer_type: str,
) -> int:
    """The most that the process will hold: `held` is what it does now. `steps` are the rows of each batch of each step."""
    steps = [step for step in steps if step]
    kept = probe(trainee, steps[0][0][0])
    gradients = sum(sharding.num_local_bytes(weight) for weight in trainee.trained.values())
    passes = max(_pass_bytes(trainee, kept, rows) for step in steps for rows in step)
    # Gradients come as activations go, unless those of an earlier batch wait for them.
    rest = gradients + passes if any(len(step) > 1 for step in steps) else max(gradients, passes)
    return round(held + _MOMENTS[optimizer_type] * gradients + rest)


def _pass_bytes(trainee: Trainee, kept: Kept, rows: Sequence[TokenizedRow]) -> float:
    """Of one batch's forward and backward pass."""
    num_places = sum(len(row) for row in rows)
    num_labels = sum(len(row) - row.labels.count(IGNORED) for row in rows)
    text = trainee.model.config.get_text_config()
    per_place = kept.per_place
    if trainee.recomputes or trainee.offload is not None:
        # One layer at a time, and where all are computed anew, what goes into each.
        per_place /= text.num_hidden_layers
    if trainee.recomputes and trainee.offload is None:
        per_place += text.num_hidden_layers * text.hidden_size * trainee.compute.itemsize
    logits = _LOGIT_COPIES * kept.per_label * num_labels
    return _ALLOCATOR_SHARE[trainee.device.type] * (kept.once + per_place * num_places + logits)

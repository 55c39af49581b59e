"""What a training will take of memory, told before its first step: what a short forward pass leaves behind, on the scale of
the largest batch.

A formula would know one architecture. What autograd keeps of any model, adapter, fake rounding or type is told by itself.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paddock.post_training import sharding
from paddock.post_training.adapters import Trainee
from paddock.post_training.batches import Batch, collate
from paddock.post_training.tokens import IGNORED, TokenizedRow

_PROBE_TOKENS = 32
"""Few, for what they take is not all given back."""

_LOGIT_COPIES = 4
"""Logits, their log-probabilities, and a gradient of each are there at once."""

_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 0}
"""What an optimiser keeps of each trained weight, in its own type."""

_ALLOCATOR_SHARE = {"cpu": 1.4, "cuda": 1.0}
"""What the C library does not give back of freed tensors, between others that live on, is four tenths of those."""
_FIRST_PASS_BYTES = {"cpu": 80_000_000, "cuda": 0}
"""Code and tables of the libraries that the first pass touches."""


@dataclass(frozen=True)
class Kept:
    """Bytes that are kept from the forward to the backward pass: once (rounded or converted weights), for each place of a
    sequence, and in its logits for each token that bears a loss."""

    once: float
    per_place: float
    per_label: float


def probe(trainee: Trainee, row: TokenizedRow) -> Kept:
    """What autograd keeps of the row's first tokens, against what it keeps of them twice. Draws no random numbers, and
    changes nothing: dropout and computing anew are for training, offloading is left out."""
    trainee = replace(trainee, offload=None)
    was_training = trainee.model.training
    trainee.model.eval()
    length = min(len(row), _PROBE_TOKENS)
    ids = row.ids[:length]
    labels = array("i", [IGNORED] * (length - length // 2)) + ids[length - length // 2 :]
    probes = [TokenizedRow(0, ids, labels, is_truncated=False)] * 2
    one, one_logits = kept_bytes(trainee, collate(probes, [(0,)], 0))
    two, two_logits = kept_bytes(trainee, collate(probes, [(0,), (1,)], 0))
    trainee.model.train(was_training)
    once = 2 * (one + one_logits) - (two + two_logits)
    return Kept(once, (two - one) / length, (two_logits - one_logits) / (length // 2))


def kept_bytes(trainee: Trainee, batch: Batch) -> tuple[int, int]:
    """Bytes that the backward pass of a batch waits for, apart from the weights themselves and logits; and of the logits."""
    num_words: int = trainee.model.get_output_embeddings().weight.shape[0]
    weights = {_address(tensor) for tensor in (*trainee.model.parameters(), *trainee.model.buffers())}
    noted: list[weakref.ref[_Kept]] = []

    def keep(tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        noted.append(weakref.ref(kept))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        log_probs, _ = trainee.log_probs(batch)
    others: dict[int, int] = {}
    logits: dict[int, int] = {}
    # What led nowhere is gone by now.
    for tensor in [kept.tensor for kept in (reference() for reference in noted) if kept is not None]:
        if _address(tensor) not in weights:
            found = logits if tensor.dim() and tensor.shape[-1] == num_words else others
            found[_address(tensor)] = int(tensor.untyped_storage().nbytes())
    del log_probs  # with it goes all that was kept
    return sum(others.values()), sum(logits.values())


class _Kept:
    """A tensor as long as autograd keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _address(tensor: Tensor) -> int:
    return int(sharding.local(tensor).untyped_storage().data_ptr())


def peak_bytes(
    trainee: Trainee,
    held: int,
    steps: Iterable[Sequence[Sequence[TokenizedRow]]],
    *,
    optimizer_type: str,
) -> int:
    """The most that the process will hold: `held` is what it does now. `steps` are the rows of each batch of each step."""
    steps = [step for step in steps if step]
    kept = probe(trainee, max((row for step in steps for rows in step for row in rows), key=len))
    gradients = sum(sharding.num_local_bytes(weight) for weight in trainee.trained.values())
    passes = max(_pass_bytes(trainee, kept, rows) for step in steps for rows in step)
    # Gradients come as activations go, unless those of an earlier batch wait for them.
    rest = gradients + passes if any(len(step) > 1 for step in steps) else max(gradients, passes)
    held += _FIRST_PASS_BYTES[trainee.device.type]
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

"""How likely a language model finds a text after another: what multiple choice is scored by, and what a model without a head
for relevance ranks passages by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from paddock.inference.local_models.forward import forward, pad_left
from paddock.inference.local_models.generate import Choice

_MAX_POSITIONS = 16_384
"""Rows times columns of one pass: it bounds the memory of activations."""

_MAX_LOGITS = 2**27
"""Logits of one pass, half a gibibyte in float32."""

Ids = list[int]


def log_likelihoods(model: Any, pairs: Sequence[tuple[Ids, Ids]]) -> list[float]:
    """For each pair (prefix, ids) the sum over `ids` of log p(token | prefix, tokens before it), in nats. Neither is empty.

    Raises `BackendError` if the model computes something that is not a number."""
    sums = [0.0] * len(pairs)
    # What is read: the last token is only expected. Pairs that differ in it alone share a row.
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, (prefix, ids) in enumerate(pairs):
        rows.setdefault(tuple(prefix + ids[:-1]), []).append(index)
    order = sorted(rows, key=len)
    num_logits = max((len(ids) for _, ids in pairs), default=0)
    num_tokens = model.config.get_text_config().vocab_size
    while order:
        # The longest first: those before it fit wherever it fits.
        size = max(1, min(_MAX_POSITIONS // len(order[-1]), _MAX_LOGITS // (num_tokens * num_logits)))
        chunk, order = order[-size:], order[:-size]
        with torch.inference_mode():
            ids_BT, mask_BT = pad_left([list(row) for row in chunk], next(model.parameters()).device)
            num_kept = min(num_logits, ids_BT.shape[1])
            logits_BTV, _ = forward(model, ids_BT, mask_BT, num_logits=num_kept, cache=None, use_cache=False)
            log_probs_BTV = logits_BTV.log_softmax(dim=-1)
            for row, log_probs_TV in zip(chunk, log_probs_BTV, strict=True):
                for index in rows[row]:
                    ids = pairs[index][1]
                    # Padded on the left, a row's last columns are about its last tokens.
                    last_TV = log_probs_TV[-len(ids) :]
                    sums[index] = math.fsum(last_TV[range(len(ids)), ids].tolist())
    return sums


def of_prompt(model: Any, ids: Ids, num_likely: int) -> list[Choice]:
    """What the model makes of each token but the first, given those before it. A long text is read in parts.

    Raises `BackendError` if the model computes something that is not a number."""
    size = max(1, _MAX_LOGITS // model.config.get_text_config().vocab_size)
    choices: list[Choice] = []
    cache = None
    with torch.inference_mode():
        # The last token is never read, only expected.
        ids_1T, mask_1T = pad_left([ids[:-1]], next(model.parameters()).device)
        for start in range(0, len(ids) - 1, size):
            end = min(start + size, len(ids) - 1)
            logits_1TV, cache = forward(
                model, ids_1T[:, start:end], mask_1T[:, :end], num_logits=end - start, cache=cache, use_cache=True
            )
            expected = zip(ids[start + 1 : end + 1], logits_1TV[0].log_softmax(dim=-1), strict=True)
            choices += [Choice.of(token_id, log_probs_V, num_likely) for token_id, log_probs_V in expected]
    return choices

"""How likely a language model finds a text after another: what it ranks passages by, having no head for relevance."""

from __future__ import annotations

from typing import Any

import torch

from paddock.inference.local_models.forward import forward, pad_left

_MAX_POSITIONS = 16_384
"""Rows times columns of one pass: it bounds the memory of activations."""

_MAX_LOGITS = 2**27
"""Logits of one pass, half a gibibyte in float32."""


def mean_log_likelihoods(model: Any, prefixes: list[list[int]], ids: list[int]) -> list[float]:
    """For each prefix the mean over the tokens `ids` of log p(token | prefix, tokens before it), in nats.

    Raises `BackendError` if the model computes something that is not a number."""
    scores = [0.0] * len(prefixes)
    order = sorted(range(len(prefixes)), key=lambda index: len(prefixes[index]))
    num_tokens = model.config.get_text_config().vocab_size
    while order:
        # The longest first: those before it fit wherever it fits.
        num_columns = len(prefixes[order[-1]]) + len(ids)
        size = max(1, min(_MAX_POSITIONS // num_columns, _MAX_LOGITS // (num_tokens * len(ids))))
        chunk, order = order[-size:], order[:-size]
        with torch.inference_mode():
            found = _one_pass(model, [prefixes[index] for index in chunk], ids)
        for index, score in zip(chunk, found, strict=True):
            scores[index] = score
    return scores


def _one_pass(model: Any, prefixes: list[list[int]], ids: list[int]) -> list[float]:
    # Padded on the left, `ids` stand in the same last columns of every row.
    ids_BT, mask_BT = pad_left([prefix + ids for prefix in prefixes], next(model.parameters()).device)
    logits_BTV, _ = forward(model, ids_BT, mask_BT, num_logits=len(ids) + 1, cache=None, use_cache=False)
    # The logits at a column are about the token at the next.
    log_probs_BTV = logits_BTV[:, :-1].log_softmax(dim=-1)
    targets_BT1 = ids_BT[:, -len(ids) :].unsqueeze(-1)
    scores: list[float] = log_probs_BTV.gather(-1, targets_BT1).squeeze(-1).mean(dim=1).tolist()
    return scores

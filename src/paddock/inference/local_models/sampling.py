"""From logits to the next token of each row: penalty, temperature, top-k, top-p, and the draw.

Each row has its own knobs and its own random numbers, so what a row draws does not depend on the rows beside it.
Shapes: B rows, V tokens of the vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Knobs:
    """How one row's tokens are chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 restrict nothing."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    random: random.Random = field(repr=False)


def penalize(logits_V: torch.Tensor, token_ids: Sequence[int], penalty: float) -> torch.Tensor:
    """Make tokens that were there already less likely: positive logits are divided by the penalty, negative ones
    multiplied (Keskar et al. 2019, section 4.1, https://arxiv.org/abs/1909.05858)."""
    seen = torch.tensor(sorted(set(token_ids)), dtype=torch.long, device=logits_V.device)
    logits = logits_V[seen]
    return logits_V.index_put((seen,), torch.where(logits > 0, logits / penalty, logits * penalty))


def choose(logits_BV: torch.Tensor, knobs: Sequence[Knobs]) -> torch.Tensor:
    """The next token of each row; `logits_BV` are float32 with penalties applied."""
    tokens_B = logits_BV.argmax(dim=-1)
    drawn = [row for row, knob in enumerate(knobs) if knob.temperature > 0]
    if drawn:
        tokens_B[drawn] = _draw(logits_BV[drawn], [knobs[row] for row in drawn])
    return tokens_B


def _draw(logits_BV: torch.Tensor, knobs: Sequence[Knobs]) -> torch.Tensor:
    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits_BV.device, dtype=torch.float64).unsqueeze(1)

    # In double precision: sums over a vocabulary of 100,000 tokens must not swallow the small ones.
    scores_BV = logits_BV.double() / column([knob.temperature for knob in knobs])
    num_tokens = scores_BV.shape[1]
    top_k = [min(knob.top_k or num_tokens, num_tokens) for knob in knobs]
    is_restricted = any(k < num_tokens or knob.top_p < 1 for k, knob in zip(top_k, knobs, strict=True))
    if is_restricted:  # only then is it worth sorting the vocabulary
        scores_BV, ids_BV = scores_BV.topk(max(top_k), dim=-1)
        rank_V = torch.arange(scores_BV.shape[1], device=scores_BV.device)
        scores_BV = scores_BV.masked_fill(rank_V >= column(top_k), -torch.inf)
    weights_BV = scores_BV.softmax(dim=-1)
    if is_restricted:
        # A token stays while those before it hold less than top_p (Holtzman et al. 2020): the first one always does.
        before_BV = weights_BV.cumsum(dim=-1) - weights_BV
        weights_BV = weights_BV.masked_fill(before_BV >= column([knob.top_p for knob in knobs]), 0)
    cumulative_BV = weights_BV.cumsum(dim=-1)
    threshold_B1 = column([knob.random.random() for knob in knobs]) * cumulative_BV[:, -1:]
    drawn_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True).clamp(max=cumulative_BV.shape[1] - 1)
    return (ids_BV.gather(1, drawn_B1) if is_restricted else drawn_B1).squeeze(1)

"""Likelihoods of padded batches against a plain computation of one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from paddock.inference.local_models import likelihood
from paddock.inference.local_models.likelihood import log_likelihoods

LONG = list(range(50, 90))
PAIRS = [
    ([1, 2, 3], [40, 41, 42, 43]),
    ([7], [40]),
    ([7], [41]),  # the same is read as for the one before
    (LONG, [9, 9]),
    (LONG[:-1], [LONG[-1], 9, 8]),  # and here as much, cut elsewhere
    ([9] * 12, [1, 2, 3, 4, 5, 6]),
]


def plain(model: Any, prefix: list[int], ids: list[int]) -> float:
    with torch.no_grad():
        log_probs = model(torch.tensor([prefix + ids])).logits[0].log_softmax(-1)
    return sum(float(log_probs[len(prefix) + i - 1, token]) for i, token in enumerate(ids))


@pytest.mark.parametrize("max_positions", [16_384, 50])
def test_log_likelihoods(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, max_positions: int) -> None:
    monkeypatch.setattr(likelihood, "_MAX_POSITIONS", max_positions)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    expected = [plain(model, *pair) for pair in PAIRS]
    assert log_likelihoods(model, PAIRS) == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) == len(PAIRS)

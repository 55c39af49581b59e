"""Likelihoods of padded batches against a plain computation of one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from paddock.inference.local_models import likelihood
from paddock.inference.local_models.likelihood import mean_log_likelihoods

IDS = [40, 41, 42, 43]
PREFIXES = [[1, 2, 3], [7], list(range(50, 90)), [9] * 12]


def plain(model: Any, prefix: list[int]) -> float:
    with torch.no_grad():
        log_probs = model(torch.tensor([prefix + IDS])).logits[0].log_softmax(-1)
    return sum(float(log_probs[len(prefix) + i - 1, token]) for i, token in enumerate(IDS)) / len(IDS)


@pytest.mark.parametrize("max_positions", [16_384, 50])
def test_mean_log_likelihoods(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, max_positions: int) -> None:
    monkeypatch.setattr(likelihood, "_MAX_POSITIONS", max_positions)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    expected = [plain(model, prefix) for prefix in PREFIXES]
    assert mean_log_likelihoods(model, PREFIXES, IDS) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(PREFIXES)

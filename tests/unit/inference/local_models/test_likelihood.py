"""Likelihoods of padded batches against a plain computation of one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from paddock.inference.local_models import likelihood
from paddock.inference.local_models.likelihood import log_likelihoods, of_prompt

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


@pytest.mark.parametrize("max_logits", [2**27, 7 * 512])
def test_a_prompt_read_whole_and_in_parts(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, max_logits: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    monkeypatch.setattr(likelihood, "_MAX_LOGITS", max_logits)
    assert max_logits // model.config.vocab_size in range(2, len(LONG)) or max_logits == 2**27
    choices = of_prompt(model, LONG, num_likely=2)
    assert [choice.token_id for choice in choices] == LONG[1:]
    expected = [plain(model, LONG[:end], [LONG[end]]) for end in range(1, len(LONG))]
    assert [choice.logprob for choice in choices] == pytest.approx(expected, abs=1e-4)
    assert all(choice.likeliest[0][1] >= choice.logprob for choice in choices)
    assert of_prompt(model, [5], num_likely=2) == []

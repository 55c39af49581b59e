"""Preference optimisation from end to end: its reference is its own start, and its numbers are those of plain libraries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, training


def _answer_log_prob(model: Any, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """log p(answer | prompt) in float64, and its number of tokens."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    before = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    with torch.no_grad():
        log_probs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    places = range(len(before), len(whole))
    return sum(log_probs[place - 1, whole[place]].item() for place in places), len(places)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("start", ["adapter", "new adapter", "whole"])
def test_the_first_step_stands_at_the_reference_to_the_last_bit(resources: Resources, start: str, dtype: str) -> None:
    add_dataset(resources, "chats", chats(8))
    add_dataset(resources, "pairs", pairs(11))
    config = training("pairs", n_epochs=1, dtype=dtype, gradient_accumulation_steps=2)
    if start == "adapter":
        run(resources, sft_request("tune", training("chats"), algorithm_config=LORA | {"dropout": 0.2}))
    model = "tune:epoch-2" if start == "adapter" else "tiny"
    algorithm = {"lora": LORA} if start == "new adapter" else {}
    run(resources, dpo_request("prefer", model, config, **algorithm))
    first, *_, last = resources.jobs.metrics("prefer")
    assert first["reward_margin"] == 0.0
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert last["reward_margin"] > 0
    assert (resources.inference.find("prefer:epoch-1").base_model is None) == (start == "whole")


def test_validation_is_what_plain_libraries_measure(resources: Resources, tiny_llama: Path) -> None:
    add_dataset(resources, "pairs", pairs(8))
    add_dataset(resources, "held-out", pairs(13)[8:])
    config = training("pairs", n_epochs=1, validation_dataset_id="held-out", max_validation_steps=-1)
    run(resources, dpo_request("prefer", "tiny", config, lora=LORA, beta=0.3))
    (checkpoint,) = resources.checkpoints.of_job("prefer")
    folder = resources.checkpoints.root / checkpoint.path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = AutoModelForCausalLM.from_pretrained(tiny_llama).double()
    policy = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), folder).double()
    losses, nats, num_tokens = [], 0.0, 0
    for pair in pairs(13)[8:]:
        ratios = []
        for side in ("chosen", "rejected"):
            log_prob, num = _answer_log_prob(policy, tokenizer, pair["prompt"], pair[side])
            ratios.append(log_prob - _answer_log_prob(reference, tokenizer, pair["prompt"], pair[side])[0])
            if side == "chosen":
                nats, num_tokens = nats - log_prob, num_tokens + num
        losses.append(math.log1p(math.exp(-0.3 * (ratios[0] - ratios[1]))))
    assert checkpoint.metrics is not None
    assert checkpoint.metrics["validation_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    # A preference loss has no perplexity: it is that of the chosen answers.
    assert checkpoint.metrics["perplexity"] == pytest.approx(math.exp(nats / num_tokens), rel=1e-5)


def test_the_reference_covers_only_what_is_met(resources: Resources) -> None:
    """With one step in each of two epochs, other pairs are met in the second: they have their reference as well."""
    add_dataset(resources, "pairs", pairs(40))
    run(resources, dpo_request("prefer", "tiny", training("pairs", n_epochs=3, max_steps_per_epoch=1), lora=LORA))
    losses = [point["loss"] for point in resources.jobs.metrics("prefer")]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)

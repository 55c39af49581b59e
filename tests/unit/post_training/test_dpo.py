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


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "kto_pair"])
def test_the_same_pairs_give_the_same_steps_however_they_stand(resources: Resources, loss_type: str) -> None:
    """In one batch, accumulated, and packed: one step of all of a set's pairs, whose answers differ in length."""
    add_dataset(resources, "pairs", pairs(8))
    series = {}
    for name, (batch_size, num_accumulated, packed) in {
        "whole": (8, 1, False),
        "accumulated": (3, 3, False),
        "packed": (8, 1, True),
        "packed and accumulated": (1, 8, True),
    }.items():
        config = training(
            "pairs", n_epochs=3, gradient_accumulation_steps=num_accumulated, packed=packed, max_seq_len=100
        )
        config["data_config"] |= {"batch_size": batch_size, "shuffle": False}
        algorithm = {"lora": LORA, "loss_type": loss_type, "beta": 0.5}
        run(resources, dpo_request(name, "tiny", config, **algorithm))
        series[name] = list(resources.jobs.metrics(name))
    for name, points in series.items():
        for key, tolerance in (("loss", 1e-6), ("reward_margin", 1e-6), ("grad_norm", 1e-5)):
            expected = [point[key] for point in series["whole"]]
            found = [point[key] for point in points]
            assert found[0] == pytest.approx(expected[0], rel=tolerance, abs=1e-6), (name, key)
            # Last bits grow over the steps of an adaptive optimiser.
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5), (name, key)
    assert len(series["whole"]) == 3
    assert series["whole"][2]["loss"] != series["whole"][0]["loss"]


def test_prompts_count_where_they_do_not_cancel_out(resources: Resources) -> None:
    """`train_on_input`: kto_pair weighs each answer by itself, so the prompt before it counts."""
    add_dataset(resources, "pairs", pairs(6))
    losses = {}
    for loss_type in ("sigmoid", "kto_pair"):
        for train_on_input in (False, True):
            config = training("pairs", train_on_input=train_on_input)
            job_uuid = f"{loss_type}-{train_on_input}"
            run(resources, dpo_request(job_uuid, "tiny", config, lora=LORA, loss_type=loss_type))
            losses[loss_type, train_on_input] = [point["loss"] for point in resources.jobs.metrics(job_uuid)]
    assert losses["sigmoid", True] == pytest.approx(losses["sigmoid", False], abs=1e-5)
    assert losses["kto_pair", True][1:] != pytest.approx(losses["kto_pair", False][1:], abs=1e-4)

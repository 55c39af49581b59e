"""Whole training jobs on a tiny Llama: what they publish, that they resume to the bit, and what their numbers mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock.jobs import states
from paddock.jobs.progress import StopRequestedError
from paddock.jobs.states import JobStatus
from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, stop_at, training


def _series(resources: Resources, job_id: str, name: str) -> list[float]:
    return [point[name] for point in resources.jobs.metrics(job_id) if name in point]


def _mean_loss(folder: Path, base: Path | None, rows: list[dict[str, Any]]) -> float:
    """Cross-entropy of the answers' tokens, by plain transformers and peft, one row at a time, in float64."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(base or folder)
    if base is not None:
        model = PeftModel.from_pretrained(model, folder)
    total, count = 0.0, 0
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["messages"], return_dict=False)
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        for place in range(len(prompt), len(whole)):
            total -= float(logits[place - 1, whole[place]])
            count += 1
    return total / count


def test_sft_publishes_adapters_that_plain_libraries_load(resources: Resources, tiny_llama: Path) -> None:
    rows = chats(10)
    add_dataset(resources, "chats", rows)
    add_dataset(resources, "held-out", chats(13)[10:])
    job = run(
        resources, sft_request("tune", training("chats", validation_dataset_id="held-out", max_validation_steps=-1))
    )
    assert job.status is JobStatus.COMPLETED
    assert job.progress == {"done": 6, "total": 6, "unit": "steps"}
    published = resources.checkpoints.of_job("tune")
    assert [c.identifier for c in published] == ["tune:epoch-1", "tune:epoch-2"]
    for checkpoint in published:
        folder = resources.checkpoints.root / checkpoint.path
        assert checkpoint.metrics is not None
        # The validation loss counts answer tokens only: an independent count must agree.
        expected = _mean_loss(folder, tiny_llama, chats(13)[10:])
        assert checkpoint.metrics["validation_loss"] == pytest.approx(expected, abs=1e-5)
        assert checkpoint.metrics["perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)
        model = resources.inference.find(checkpoint.identifier)
        assert (model.base_model, model.job_id) == (str(tiny_llama), "tune")
    losses = _series(resources, "tune", "loss")
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert job.resources is not None
    assert job.resources["num_trainable_parameters"] < job.resources["num_parameters"]


def test_the_first_loss_is_that_of_the_base(resources: Resources, tiny_llama: Path) -> None:
    rows = chats(4)
    add_dataset(resources, "chats", rows)
    run(resources, sft_request("tune", training("chats", n_epochs=1, max_steps_per_epoch=1)))
    assert _series(resources, "tune", "loss") == [pytest.approx(_mean_loss(tiny_llama, None, rows), abs=1e-5)]


def test_accumulated_and_packed_steps_equal_the_plain_ones(resources: Resources) -> None:
    """Same rows in a step, in one batch, in four, and packed: the same losses and the same weights."""
    add_dataset(resources, "chats", chats(8))
    plain = training("chats")
    plain["data_config"]["shuffle"] = False
    accumulated = training("chats", gradient_accumulation_steps=4)
    accumulated["data_config"] |= {"shuffle": False, "batch_size": 1}
    whole = training("chats", max_seq_len=512)
    whole["data_config"] |= {"shuffle": False, "batch_size": 8}
    packed = training("chats", packed=True, max_seq_len=512)
    packed["data_config"] |= {"shuffle": False, "batch_size": 8}
    for name, config in (("plain", plain), ("accumulated", accumulated), ("whole", whole), ("packed", packed)):
        run(resources, sft_request(name, config))
    assert _series(resources, "accumulated", "loss") == pytest.approx(_series(resources, "plain", "loss"), abs=1e-5)
    assert _series(resources, "packed", "loss") == pytest.approx(_series(resources, "whole", "loss"), abs=1e-5)
    norms = _series(resources, "whole", "grad_norm")
    assert _series(resources, "packed", "grad_norm") == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "full", "dora", "bf16", "four bits", "qat"])
def test_a_stopped_job_ends_with_the_same_hash(resources: Resources, method: str) -> None:
    add_dataset(resources, "chats", chats(12))
    config = training("chats", dtype="bf16" if method == "bf16" else "fp32")
    algorithm: dict[str, Any] | None = LORA | {"use_dora": method == "dora", "dropout": 0.1}
    if method == "full":
        algorithm = None
    elif method == "four bits":
        # Validated, so that the base is run without gradients between the epochs too.
        algorithm = LORA | {"quantize_base": True, "use_dora": True}
        config["data_config"]["validation_dataset_id"] = "chats"
    elif method == "qat":
        algorithm = {"type": "QAT", "quantizer_name": "int8_dynamic_int4", "group_size": 32}
    undisturbed = run(resources, sft_request("one", config, algorithm_config=algorithm))
    assert undisturbed.status is JobStatus.COMPLETED

    # Stopped once in the middle of the first epoch, once right at its end.
    for step in (2, 4):
        with pytest.raises(StopRequestedError):
            run(resources, sft_request("two", config, algorithm_config=algorithm), on_start=stop_at(step))
        job = resources.jobs.get("two")
        with resources.database.write() as connection:
            states.hand_back(connection, resources.database.now(), "two", job.attempt)
    run(resources, sft_request("two", config, algorithm_config=algorithm))
    hashes = [[c.sha256 for c in resources.checkpoints.of_job(name)] for name in ("one", "two")]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 2
    assert _series(resources, "two", "loss") == _series(resources, "one", "loss")
    assert resources.jobs.get("two").attempt == 3


def test_full_weights_are_a_whole_model(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(8))
    run(resources, sft_request("full", training("chats", n_epochs=1), algorithm_config=None))
    (checkpoint,) = resources.checkpoints.of_job("full")
    assert checkpoint.metrics is None
    folder = resources.checkpoints.root / checkpoint.path
    assert (folder / "model.safetensors").exists()
    assert resources.inference.find("full:epoch-1").base_model is None
    assert math.isfinite(_mean_loss(folder, None, chats(2)))
    # And a model to be trained again.
    run(resources, sft_request("again", training("chats", n_epochs=1), model="full:epoch-1"))
    assert resources.inference.find("again:epoch-1").base_model == str(folder)


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "kto_pair"])
def test_dpo_starts_at_its_reference(resources: Resources, tiny_llama: Path, loss_type: str) -> None:
    add_dataset(resources, "chats", chats(8))
    add_dataset(resources, "pairs", pairs(8))
    run(resources, sft_request("tune", training("chats")))
    run(resources, dpo_request("prefer", "tune:epoch-2", training("pairs"), loss_type=loss_type))
    first = {"sigmoid": math.log(2), "hinge": 1.0, "ipo": 25.0, "kto_pair": 0.5}[loss_type]
    losses = _series(resources, "prefer", "loss")
    assert losses[0] == pytest.approx(first, abs=2e-5 * first)
    assert losses[-1] < losses[0]
    assert _series(resources, "prefer", "reward_accuracy")[-1] > 0.5
    # The adapter that was tuned is the one that was trained on: its base is still the hub's model.
    assert resources.inference.find("prefer:epoch-2").base_model == str(tiny_llama)


@pytest.mark.parametrize("loss_type", ["sigmoid", "kto_pair"])
def test_dpo_resumes_with_its_first_reference(resources: Resources, loss_type: str) -> None:
    add_dataset(resources, "pairs", pairs(10))
    config = training(
        "pairs", validation_dataset_id="pairs", packed=True, max_seq_len=64, gradient_accumulation_steps=2
    )
    config["data_config"]["batch_size"] = 1
    algorithm = {"lora": LORA | {"dropout": 0.1}, "loss_type": loss_type}
    run(resources, dpo_request("one", "tiny", config, **algorithm))

    with pytest.raises(StopRequestedError):
        run(resources, dpo_request("two", "tiny", config, **algorithm), on_start=stop_at(2))
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), "two", 1)
    run(resources, dpo_request("two", "tiny", config, **algorithm))
    hashes = [[c.sha256 for c in resources.checkpoints.of_job(name)] for name in ("one", "two")]
    assert hashes[0] == hashes[1]


def test_a_loss_that_is_not_finite_fails_with_step_and_rows(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(8))
    config = training("chats", max_grad_norm=None, n_epochs=1)
    config["optimizer_config"] |= {"lr": 1e30, "num_warmup_steps": 0, "optimizer_type": "sgd"}
    with pytest.raises(Exception, match=r"of step \d is not finite .* rows (\d, ){3}\d\."):
        run(resources, sft_request("bad", config, algorithm_config=None))
    assert resources.checkpoints.of_job("bad") == []

"""What the fields of a training configuration change, seen in a job's series and results."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, run, sft_request, training


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(10))


def _series(resources: Resources, job_uuid: str, config: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    run(resources, sft_request(job_uuid, config, **more))
    return list(resources.jobs.metrics(job_uuid))


def test_steps_are_counted_per_epoch(resources: Resources) -> None:
    config = training("chats")
    del config["max_steps_per_epoch"]
    by_default = _series(resources, "default", config)
    assert [(point["step"], point["epoch"]) for point in by_default] == [(1, 1), (2, 2)]
    whole = _series(resources, "whole", training("chats"))
    assert [point["epoch"] for point in whole] == [1, 1, 1, 2, 2, 2]
    accumulated = _series(resources, "accumulated", training("chats", gradient_accumulation_steps=2))
    assert [point["epoch"] for point in accumulated] == [1, 1, 2, 2]


def test_the_rate_and_the_norm_are_in_the_series(resources: Resources) -> None:
    series = _series(resources, "job", training("chats"))
    assert [point["lr"] for point in series] == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025])
    assert all(point["grad_norm"] > 0 and point["tokens_per_second"] > 0 for point in series)


def test_validation_counts_batches(resources: Resources) -> None:
    losses = {}
    for steps in (1, 2, None, -1):
        config = training("chats", n_epochs=1, validation_dataset_id="chats", max_validation_steps=steps)
        run(resources, sft_request(f"job-{steps}", config))
        (checkpoint,) = resources.checkpoints.of_job(f"job-{steps}")
        assert checkpoint.metrics is not None
        losses[steps] = checkpoint.metrics["validation_loss"]
    assert losses[1] != losses[2]
    assert losses[None] == losses[-1] != losses[2]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"data_config": {"shuffle": False}},
        {"data_config": {"train_on_input": True}},
        {"data_config": {"batch_size": 5}},
        {"data_config": {"packed": True}, "max_seq_len": 64},
        {"max_seq_len": 12},
        {"lr_schedule": "constant"},
        {"max_grad_norm": 0.01},
        {"dtype": "bf16"},
        {"optimizer_config": {"optimizer_type": "sgd"}},
        {"optimizer_config": {"optimizer_type": "adam", "weight_decay": 0.3}},
        {"optimizer_config": {"weight_decay": 0.3}},
        {"optimizer_config": {"num_warmup_steps": 0}},
        {"algorithm_config": {"rank": 2}},
        {"algorithm_config": {"alpha": 1}},
        {"algorithm_config": {"apply_lora_to_mlp": False}},
        {"algorithm_config": {"apply_lora_to_output": True}},
        {"algorithm_config": {"lora_attn_modules": ["k_proj"]}},
        {"algorithm_config": {"use_dora": True}},
        {"algorithm_config": {"dropout": 0.3}},
    ],
    ids=str,
)
def test_every_knob_turns(resources: Resources, change: dict[str, Any]) -> None:
    """One knob changed is another adapter; none changed is the same one, to the bit."""
    plain, turned = training("chats"), training("chats")
    algorithm = LORA | change.get("algorithm_config", {})
    for name, value in change.items():
        if name in ("data_config", "optimizer_config"):
            turned[name] |= value
        elif name != "algorithm_config":
            turned[name] = value
    run(resources, sft_request("plain", plain))
    run(resources, sft_request("again", plain))
    run(resources, sft_request("turned", turned, algorithm_config=algorithm))
    hashes = [resources.checkpoints.of_job(name)[-1].sha256 for name in ("plain", "again", "turned")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_resources_tell_what_it_ran_on(resources: Resources) -> None:
    job = run(resources, sft_request("job", training("chats")))
    told = job.resources
    assert told is not None
    assert (told["device"], told["num_threads"], told["dtype"], told["exact_resume"]) == ("cpu", 1, "float32", True)
    assert told["peak_memory_bytes"] > 100 * 2**20
    # Rank 4 on query (32, 32), value (32, 16), output (32, 32) and the MLP's three (32, 64) in each of two layers.
    assert told["num_trainable_parameters"] == 2 * 4 * ((32 + 32) + (32 + 16) + (32 + 32) + 3 * (32 + 64))

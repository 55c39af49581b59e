"""`paddock train` against the real app: the requests that the options stand for. Training itself is tested elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from paddock.jobs.job import NewJob
from paddock.jobs.progress import Progress
from paddock.post_training.trial_store import Trial
from paddock.wiring import Resources

Invoke = Callable[..., Result]


@pytest.fixture
def chats(invoke: Invoke, write_rows: Callable[..., Path]) -> str:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = write_rows(*({"messages": turns} for _ in range(4)), name="chats.jsonl")
    invoke("datasets", "register", "chats", "--purpose", "post-training/messages", "--file", rows)
    return "chats"


@pytest.fixture
def pairs(invoke: Invoke, write_rows: Callable[..., Path]) -> str:
    rows = write_rows(*({"prompt": "hi", "chosen": "ho", "rejected": "no"} for _ in range(4)), name="pairs.jsonl")
    invoke("datasets", "register", "pairs", "--purpose", "post-training/messages", "--file", rows)
    return "pairs"


def request_of(resources: Resources, job_id: str) -> dict[str, Any]:
    return resources.jobs.get(job_id).request


def test_sft_is_lora_over_whole_epochs_by_default(invoke: Invoke, resources: Resources, tiny: str, chats: str) -> None:
    output = invoke("train", "sft", "--model", tiny, "--dataset", chats, "--job-id", "first", "--no-follow").output
    assert output == "The job first is scheduled. Follow it with  paddock jobs watch first\n"
    request = request_of(resources, "first")
    assert request["model"] == tiny
    assert request["algorithm_config"]["type"] == "LoRA"
    assert (request["algorithm_config"]["rank"], request["algorithm_config"]["alpha"]) == (16, 32)
    training = request["training_config"]
    assert (training["n_epochs"], training["max_steps_per_epoch"], training["max_validation_steps"]) == (1, -1, -1)
    assert training.get("optimizer_config") is None
    assert training["data_config"]["dataset_id"] == chats


def test_every_option_of_sft_is_in_the_request(invoke: Invoke, resources: Resources, tiny: str, chats: str) -> None:
    words = (
        f"train sft --model {tiny} --dataset {chats} --validation {chats} --full --epochs 2 --max-steps 3 --batch-size 5 "
        "--accumulate 7 --lr 0.01 --warmup 11 --weight-decay 0.5 --optimizer sgd --lr-schedule cosine --max-seq-len 64 "
        "--seed 13 --dtype fp32 --format dialog --no-shuffle --packed --train-on-input --job-id x --no-follow --json"
    )
    assert json.loads(invoke(*words.split()).output) == {"job_uuid": "x"}
    request = request_of(resources, "x")
    assert request.get("algorithm_config") is None
    expected = {
        "n_epochs": 2,
        "max_steps_per_epoch": 3,
        "gradient_accumulation_steps": 7,
        "lr_schedule": "cosine",
        "max_seq_len": 64,
        "seed": 13,
        "dtype": "fp32",
    }
    assert {key: request["training_config"][key] for key in expected} == expected
    assert request["training_config"]["optimizer_config"] == {
        "optimizer_type": "sgd", "lr": 0.01, "weight_decay": 0.5, "num_warmup_steps": 11,
    }  # fmt: skip
    data = request["training_config"]["data_config"]
    assert data == {
        "dataset_id": chats, "validation_dataset_id": chats, "batch_size": 5, "shuffle": False,
        "data_format": "dialog", "packed": True, "train_on_input": True,
    }  # fmt: skip


def test_a_search_and_loggers(
    invoke: Invoke, resources: Resources, tiny: str, chats: str, write_rows: Callable[..., Path]
) -> None:
    space = {"algorithm_config.rank": {"type": "int", "low": 2, "high": 4}}
    file = write_rows({"space": space, "num_trials": 2}, name="search.json")
    words = f"train sft --model {tiny} --dataset {chats} --validation {chats} --search {file} --logger tensorboard"
    invoke(*words.split(), "--job-id", "x", "--no-follow")
    request = request_of(resources, "x")["request"]
    assert request["hyperparam_search_config"] == {"space": space, "num_trials": 2}
    assert request["logger_config"] == {"loggers": ["tensorboard"]}
    assert "Trial" in invoke("train", "trials", "x").output

    job = resources.jobs.claim(worker_id="w", lease_seconds=60, coordinators=True)
    assert job is not None
    pointer = "/algorithm_config/rank"
    with Progress(job, resources.jobs).write() as connection:
        for number, rank, value in ((1, 2, 0.5), (2, 4, 0.25), (3, 3, None)):
            resources.jobs.submit(NewJob(f"x:trial-{number}", "sft", {}, parent_id="x"), connection)
            trial = Trial(number, f"x:trial-{number}", {pointer: rank})
            resources.trials.begin(connection, "x", trial)
            ended = (
                replace(trial, status="completed", value=value)
                if value
                else replace(trial, status="failed", error="oh")
            )
            resources.trials.end(connection, "x", ended)
    lines = invoke("train", "trials", "x").output.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "completed", "0.5", "2"], ["*", "2", "completed", "0.25", "4"], ["3", "failed", "3", "oh"],
    ]  # fmt: skip
    assert json.loads(invoke("train", "trials", "x", "--json").output)["best"] == 2

    file.write_text("{")
    assert "Invalid value for '--search'" in invoke(*words.split(), "--job-id", "y", code=2).output


def test_dpo(invoke: Invoke, resources: Resources, tiny: str, pairs: str) -> None:
    words = f"train dpo --model {tiny} --dataset {pairs} --beta 0.3 --loss ipo --lora --rank 4 --job-id x --no-follow"
    invoke(*words.split())
    request = request_of(resources, "x")
    assert request["finetuned_model"] == tiny
    algorithm = request["algorithm_config"]
    assert (algorithm["beta"], algorithm["loss_type"], algorithm["lora"]["rank"]) == (0.3, "ipo", 4)


def test_an_optimizer_needs_its_rate(invoke: Invoke) -> None:
    output = invoke("train", "sft", "--model", "m", "--dataset", "d", "--warmup", "3", code=2).output
    assert "give --lr" in output


def test_a_refusal_names_its_place(invoke: Invoke, tiny: str) -> None:
    output = invoke("train", "sft", "--model", tiny, "--dataset", "nope", "--no-follow", code=1).output
    assert "/training_config/data_config/dataset_id" in output


def test_ids_are_made_up_anew(invoke: Invoke, tiny: str, chats: str, resources: Resources) -> None:
    for _ in range(2):
        invoke("train", "sft", "--model", tiny, "--dataset", chats, "--no-follow")
    assert len({job.job_id for job in resources.jobs.list(kinds=["sft"])}) == 2


def test_status_artifacts_cancel(invoke: Invoke, tiny: str, chats: str) -> None:
    invoke("train", "sft", "--model", tiny, "--dataset", chats, "--job-id", "a/b", "--no-follow")
    assert invoke("train", "status", "a/b").output == "a/b is scheduled.\n"
    assert json.loads(invoke("train", "status", "a/b", "--json").output)["job_uuid"] == "a/b"
    assert json.loads(invoke("train", "artifacts", "a/b", "--json").output)["checkpoints"] == []
    assert "Checkpoint" in invoke("train", "artifacts", "a/b").output
    invoke("train", "cancel", "a/b")
    assert invoke("train", "status", "a/b").output == "a/b is cancelled.\n"
    assert "nope" in invoke("train", "cancel", "nope", code=1).output


def test_the_contracts_objects_stand_over_the_options(
    invoke: Invoke, resources: Resources, tiny: str, chats: str, tmp_path: Path
) -> None:
    written = tmp_path / "training.yaml"
    written.write_text(f"n_epochs: 3\ndata_config: {{dataset_id: {chats}, batch_size: 2}}\n")
    algorithm = json.dumps(
        {
            "type": "LoRA",
            "lora_attn_modules": ["q_proj"],
            "apply_lora_to_mlp": False,
            "apply_lora_to_output": False,
            "rank": 3,
            "alpha": 5,
        }
    )
    words = ("train", "sft", "--model", tiny, "--training-config", written, "--algorithm-config", algorithm)
    invoke(*words, "--epochs", "9", "--lr", "0.5", "--checkpoint-dir", "team", "--job-id", "x", "--no-follow")
    request = request_of(resources, "x")
    training = request["training_config"]
    assert (training["n_epochs"], training["optimizer_config"]["lr"]) == (3, 0.5)
    assert (training["data_config"]["batch_size"], training["data_config"]["shuffle"]) == (2, True)
    assert (request["algorithm_config"]["rank"], request["algorithm_config"]["lora_attn_modules"]) == (3, ["q_proj"])
    assert request["checkpoint_dir"] == "team"


def test_rows_to_train_on_must_be_named(invoke: Invoke) -> None:
    assert "--dataset" in invoke("train", "sft", "--model", "m", code=2).output


def test_training_jobs_are_listed(invoke: Invoke, tiny: str, chats: str, pairs: str) -> None:
    assert invoke("train", "list").output.split()[0] == "Job"
    invoke("train", "sft", "--model", tiny, "--dataset", chats, "--job-id", "first", "--no-follow")
    invoke("train", "dpo", "--model", tiny, "--dataset", pairs, "--lora", "--job-id", "second", "--no-follow")
    assert [line.split()[:2] for line in invoke("train", "list").output.splitlines()[1:]] == [
        ["second", "dpo"], ["first", "sft"],
    ]  # fmt: skip
    listed = json.loads(invoke("train", "list", "--limit", "1", "--json").output)
    assert [job["job_id"] for job in listed] == ["second"]

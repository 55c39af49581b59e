"""The options that every way of training takes, and the contract's objects that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from paddock.cli.json_values import json_object, laid_over

F = TypeVar("F", bound=Callable[..., Any])

_count = click.IntRange(min=1)

_OPTIONS = (
    click.option("--model", required=True, help="A registered model or a checkpoint's identifier."),
    click.option("--dataset", "dataset_id", help="The rows to train on."),
    click.option("--validation", "validation_dataset_id", help="Rows to measure the loss on after each epoch."),
    click.option("--epochs", type=_count, default=1, show_default=True, help="Passes over the rows."),
    click.option("--max-steps", type=_count, help="Optimiser steps in each epoch (default: all its rows)."),
    click.option("--batch-size", type=_count, default=8, show_default=True, help="Rows in a batch."),
    click.option("--accumulate", type=_count, default=1, show_default=True, help="Batches in an optimiser step."),
    click.option("--lr", type=float, help="Learning rate (default: 1e-4 with LoRA, 1e-5 without)."),
    click.option(
        "--warmup", type=click.IntRange(min=0), default=0, show_default=True, help="Steps up to the full rate."
    ),
    click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Pull of the weights to zero."),
    click.option("--optimizer", type=click.Choice(["adamw", "adam", "sgd"]), default="adamw", show_default=True),
    click.option(
        "--lr-schedule",
        type=click.Choice(["linear", "cosine", "constant"]),
        default="linear",
        show_default=True,
        help="How the rate goes on after the warm-up.",
    ),
    click.option("--max-seq-len", type=click.IntRange(min=2), help="Longer rows are cut to so many tokens."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of order and new weights."),
    click.option(
        "--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True, help="To compute in."
    ),
    click.option(
        "--format",
        "data_format",
        type=click.Choice(["instruct", "dialog"]),
        default="instruct",
        show_default=True,
        help="Learn a row's last answer, or every turn of the assistant.",
    ),
    click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Rows in random order, or as stored."),
    click.option("--rank", type=_count, default=16, show_default=True, help="Of the LoRA adapter."),
    click.option("--alpha", type=_count, default=32, show_default=True, help="Its output is scaled by alpha / rank."),
    click.option(
        "--attn-module",
        "attn_modules",
        multiple=True,
        default=("q_proj", "k_proj", "v_proj", "o_proj"),
        show_default=True,
        help="An attention layer that LoRA adapts; may be given several times.",
    ),
    click.option(
        "--training-config",
        "written_config",
        type=json_object,
        help="The contract's object, as JSON or a file: what it says stands over the options.",
    ),
    click.option(
        "--search",
        type=json_object,
        help="Search for hyperparameters as this object says, as JSON or a file (docs/post-training.md).",
    ),
    click.option(
        "--logger",
        "loggers",
        multiple=True,
        type=click.Choice(["tensorboard", "mlflow", "wandb", "trackio"]),
        help="Where the server also logs the training to; may be given several times.",
    ),
    click.option("--job-id", help="The job's id, and so its checkpoints' (default: made up)."),
)


def training_options(command: F) -> F:
    """Give a command these options; all but the model, LoRA's and the job's id are for `training_config`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def lora_config(rank: int, alpha: int, attn_modules: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "LoRA",
        "lora_attn_modules": list(attn_modules),
        "apply_lora_to_mlp": True,
        "apply_lora_to_output": False,
        "rank": rank,
        "alpha": alpha,
    }


def search_and_loggers(search: dict[str, Any] | None, loggers: tuple[str, ...]) -> dict[str, Any]:
    """The contract's `hyperparam_search_config` and `logger_config`."""
    return {
        "hyperparam_search_config": search or {},
        "logger_config": {"loggers": list(loggers)} if loggers else {},
    }


def training_config(
    *,
    written_config: dict[str, Any] | None,
    dataset_id: str | None,
    validation_dataset_id: str | None,
    epochs: int,
    max_steps: int | None,
    batch_size: int,
    accumulate: int,
    lr: float | None,
    warmup: int,
    weight_decay: float,
    optimizer: str,
    lr_schedule: str,
    max_seq_len: int | None,
    seed: int,
    dtype: str,
    data_format: str,
    shuffle: bool,
    **more_data: Any,
) -> dict[str, Any]:
    """The contract's `TrainingConfig`; `more_data` is for its `data_config`, and what was written stands over all."""
    config: dict[str, Any] = {
        "n_epochs": epochs,
        "max_steps_per_epoch": max_steps or -1,
        "gradient_accumulation_steps": accumulate,
        "max_validation_steps": -1,
        "dtype": dtype,
        "seed": seed,
        "lr_schedule": lr_schedule,
        "data_config": {
            "dataset_id": dataset_id,
            "validation_dataset_id": validation_dataset_id,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "data_format": data_format,
            **more_data,
        },
    }
    if max_seq_len is not None:
        config["max_seq_len"] = max_seq_len
    if lr is not None:
        config["optimizer_config"] = {
            "optimizer_type": optimizer,
            "lr": lr,
            "weight_decay": weight_decay,
            "num_warmup_steps": warmup,
        }
    elif warmup or weight_decay or optimizer != "adamw":
        raise click.UsageError("--warmup, --weight-decay and --optimizer need the rate that they belong to: give --lr.")
    config = laid_over(config, written_config or {})
    data = config["data_config"]
    if isinstance(data, dict) and data.get("dataset_id") is None:
        raise click.UsageError("Name the rows to train on: --dataset.")
    return config

"""`paddock train`: fine-tune a model on a dataset, and what became of it."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from itertools import islice
from typing import Any

import click
from rich.table import Table

from paddock import terminal
from paddock.cli import jobs
from paddock.cli.json_values import json_object
from paddock.cli.options import command_line, follow_job, follow_option, json_option, speaks_to_server
from paddock.cli.training_options import lora_config, search_and_loggers, training_config, training_options
from paddock.client import Client, quoted

_JOB = "/v1alpha/post-training/job"


@click.group()
def train() -> None:
    """Fine-tune a model: sft on answers, dpo on preferences."""


@train.command()
@training_options
@click.option("--lora/--full", default=True, show_default=True, help="Train an adapter, or all weights.")
@click.option("--packed", is_flag=True, help="Several rows in one sequence.")
@click.option("--train-on-input", is_flag=True, help="Learn the prompts, too.")
@click.option("--algorithm-config", type=json_object, help="The contract's object itself, for what no option says.")
@click.option("--checkpoint-dir", help="A folder for the checkpoints, below the server's `checkpoint_root`.")
@follow_option
@speaks_to_server
@json_option
def sft(
    client: Client,
    /,
    model: str,
    lora: bool,
    rank: int,
    alpha: int,
    attn_modules: tuple[str, ...],
    packed: bool,
    train_on_input: bool,
    algorithm_config: dict[str, Any] | None,
    checkpoint_dir: str | None,
    job_id: str | None,
    search: dict[str, Any] | None,
    loggers: tuple[str, ...],
    follows: bool,
    as_json: bool,
    **training: Any,
) -> None:
    """Supervised fine-tuning: learn the answers of rows with `messages`.

    \b
    Examples:
      paddock train sft --model small --dataset my/train --job-id my-first
      paddock train sft --model small --dataset my/train --full --epochs 3 --lr 2e-5 --no-follow
      paddock train sft --model small --dataset my/train --validation my/held-out --lr 1e-4 --search search.json"""
    body = {
        "job_uuid": job_id or _new_job_id("sft"),
        "model": model,
        "algorithm_config": algorithm_config or (lora_config(rank, alpha, attn_modules) if lora else None),
        "training_config": training_config(packed=packed, train_on_input=train_on_input, **training),
        **search_and_loggers(search, loggers),
    }
    if checkpoint_dir is not None:
        body["checkpoint_dir"] = checkpoint_dir
    _submit(client, "/v1alpha/post-training/supervised-fine-tune", body, follows=follows, as_json=as_json)


@train.command()
@training_options
@click.option("--beta", type=float, default=0.1, show_default=True, help="How firmly the model is held to its start.")
@click.option(
    "--loss", type=click.Choice(["sigmoid", "hinge", "ipo", "kto_pair"]), default="sigmoid", show_default=True
)
@click.option("--lora", is_flag=True, help="Train a new adapter on a whole model. A checkpoint's own is trained on.")
@follow_option
@speaks_to_server
@json_option
def dpo(
    client: Client,
    /,
    model: str,
    beta: float,
    loss: str,
    lora: bool,
    rank: int,
    alpha: int,
    attn_modules: tuple[str, ...],
    job_id: str | None,
    search: dict[str, Any] | None,
    loggers: tuple[str, ...],
    follows: bool,
    as_json: bool,
    **training: Any,
) -> None:
    """Direct preference optimisation: learn from rows with `prompt`, `chosen` and `rejected`.

    Example: paddock train dpo --model my-first:epoch-1 --dataset my/pairs --lr 1e-5 --job-id my-second"""
    algorithm: dict[str, Any] = {"beta": beta, "loss_type": loss}
    if lora:
        algorithm["lora"] = lora_config(rank, alpha, attn_modules)
    body = {
        "job_uuid": job_id or _new_job_id("dpo"),
        "finetuned_model": model,
        "algorithm_config": algorithm,
        "training_config": training_config(**training),
        **search_and_loggers(search, loggers),
    }
    _submit(client, "/v1alpha/post-training/preference-optimize", body, follows=follows, as_json=as_json)


@train.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many.")
@speaks_to_server
@json_option
def list_(client: Client, limit: int, as_json: bool) -> None:
    """List the training jobs, the newest first.

    Example: paddock train list"""
    training = {job["job_uuid"] for job in client.get("/v1alpha/post-training/jobs")["data"]}
    found = list(islice((job for job in client.jobs() if job["job_id"] in training), min(limit, len(training))))
    if as_json:
        terminal.print_json(found)
        return
    terminal.out().print(jobs.as_table(found))


@train.command()
@click.argument("job_id")
@speaks_to_server
@json_option
def status(client: Client, job_id: str, as_json: bool) -> None:
    """Show how far a training job is, and its checkpoints.

    Example: paddock train status my-first"""
    answer = client.get(f"{_JOB}/status", job_uuid=job_id)
    if as_json:
        terminal.print_json(answer)
        return
    progress = terminal.progress_text(answer.get("progress"))
    click.echo(f"{job_id} is {answer['status']}{progress and ', '}{progress}.")
    if answer.get("error"):
        click.echo(answer["error"])
    if answer["checkpoints"]:
        terminal.out().print(_checkpoints(answer["checkpoints"]))


@train.command()
@click.argument("job_id")
@speaks_to_server
@json_option
def artifacts(client: Client, job_id: str, as_json: bool) -> None:
    """List the checkpoints of a training job. Each identifier is a model's id.

    Example: paddock train artifacts my-first"""
    answer = client.get(f"{_JOB}/artifacts", job_uuid=job_id)
    if as_json:
        terminal.print_json(answer)
        return
    terminal.out().print(_checkpoints(answer["checkpoints"]))


@train.command()
@click.argument("job_id")
@speaks_to_server
@json_option
def trials(client: Client, job_id: str, as_json: bool) -> None:
    """List the trials of a hyperparameter search, with their values; the best so far is marked.

    Example: paddock train trials my-search"""
    answer = client.get(f"/v1alpha/post-training/jobs/{quoted(job_id)}/trials")
    if as_json:
        terminal.print_json(answer)
        return
    varied = list(answer["data"][0]["parameters"]) if answer["data"] else []
    columns = [pointer.rpartition("/")[2] for pointer in varied]
    table = terminal.table("", "Trial", "Status", "Value", *columns, "Remark", numbers=("Trial", "Value", *columns))
    for trial in answer["data"]:
        value = "" if trial["value"] is None else f"{trial['value']:.4g}"
        parameters = [terminal.cell(_shown(trial["parameters"][pointer])) for pointer in varied]
        mark = "*" if trial["number"] == answer["best"] else ""
        table.add_row(mark, str(trial["number"]), trial["status"], value, *parameters, terminal.cell(trial["error"]))
    terminal.out().print(table)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


@train.command()
@click.argument("job_id")
@speaks_to_server
def cancel(client: Client, job_id: str) -> None:
    """Cancel a training job; the checkpoints that it has published stay.

    Example: paddock train cancel my-first"""
    client.post(f"{_JOB}/cancel", {"job_uuid": job_id})
    click.echo(f"The job {job_id} is cancelled.")


def _submit(client: Client, path: str, body: dict[str, Any], *, follows: bool, as_json: bool) -> None:
    """Submit a training job, follow it where that is wanted, and show its checkpoints."""
    answer = client.post(path, body)
    job_id = answer["job_uuid"]
    if not follows:
        if as_json:
            terminal.print_json(answer)
            return
        click.echo(f"The job {job_id} is scheduled. Follow it with  {command_line(client, 'jobs', 'watch', job_id)}")
        return
    _, points = follow_job(client, job_id, job_id)
    answer = client.get(f"{_JOB}/artifacts", job_uuid=job_id)
    if as_json:
        terminal.print_json(answer)
        return
    console = terminal.out()
    losses = [point["loss"] for point in points if point.get("loss") is not None]
    if losses:
        console.print(f"loss  {losses[0]:.4g} {terminal.sparkline(losses)} {losses[-1]:.4g}  in {len(losses)} steps")
    console.print(_checkpoints(answer["checkpoints"]))


def _checkpoints(checkpoints: list[dict[str, Any]]) -> Table:
    measures = ("train_loss", "validation_loss", "perplexity")
    table = terminal.table("Checkpoint", "Epoch", "Train loss", "Validation loss", "Perplexity", numbers=("Epoch",))
    for checkpoint in checkpoints:
        metrics = checkpoint["training_metrics"] or {}
        values = [f"{metrics[measure]:.4g}" if measure in metrics else "–" for measure in measures]
        table.add_row(terminal.cell(checkpoint["identifier"]), str(checkpoint["epoch"]), *values)
    return table


def _new_job_id(method: str) -> str:
    return f"{method}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"

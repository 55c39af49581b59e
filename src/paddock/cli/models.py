"""`paddock models`: what can be trained, judged and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paddock import terminal
from paddock.cli import publishing
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted

_LOCAL = "local"


@click.group()
def models() -> None:
    """Models: folders, hub ids, those of remote servers, and checkpoints."""


models.add_command(publishing.export)
models.add_command(publishing.push)


@models.command("list")
@speaks_to_server
@json_option
def list_(client: Client, as_json: bool) -> None:
    """List the registered models and the checkpoints of training jobs.

    Example: paddock models list"""
    answer = client.get("/v1/models")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Model", "Type", "Provider", "There known as", "Job")
    for model in answer["data"]:
        columns = ("identifier", "model_type", "provider_id", "provider_resource_id")
        row = [*(model.get(column) for column in columns), model["metadata"].get("job_id")]
        table.add_row(*map(terminal.cell, row))
    terminal.out().print(table)


@models.command()
@click.argument("model_id")
@speaks_to_server
@json_option
def show(client: Client, model_id: str, as_json: bool) -> None:
    """Show one model: architecture, parameters, type, memory, licence.

    Example: paddock models show small"""
    model = client.get(f"/v1/models/{quoted(model_id)}")
    profile = client.get(f"/v1/model-profiles/{quoted(model_id)}")
    if as_json:
        terminal.print_json(model | {"profile": profile})
        return
    table = terminal.table("Model", model_id)
    for name, value in _rows(model, profile):
        if value is not None:
            table.add_row(name, terminal.cell(value))
    terminal.out().print(table)


def _rows(model: dict[str, Any], profile: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("type", model["model_type"]),
        ("provider", model["provider_id"]),
        ("there known as", model["provider_resource_id"]),
        ("checkpoint of the job", profile["job_id"]),
        ("trained from", profile["base_model"]),
        ("files", None if profile["is_here"] else "not on this machine"),
        ("architecture", profile["architecture"]),
        ("parameters", _grouped(profile["num_parameters"])),
        ("parameters of the adapter", _grouped(profile["num_adapter_parameters"])),
        ("dtype", profile["dtype"]),
        ("bytes on disk", _grouped(profile["num_file_bytes"])),
        ("memory on a CPU", _megabytes(profile["cpu_memory_bytes"])),
        ("memory on a GPU", _megabytes(profile["gpu_memory_bytes"])),
        ("context", _grouped(profile["context"])),
        ("chat template", {True: "yes", False: "no"}.get(profile["has_chat_template"])),
        ("images", {True: "yes", False: "no"}.get(profile["reads_images"])),
        ("licence", profile["licence"]),
        *(("metadata " + name, value) for name, value in model["metadata"].items() if name not in _SHOWN_ALREADY),
    ]


_SHOWN_ALREADY = ("job_id", "base_model")


def _grouped(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _megabytes(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e6:,.1f} MB"


@models.command()
@click.argument("model_id")
@click.option("--path", type=click.Path(path_type=Path), help="A Hugging Face folder on the server's machine.")
@click.option("--hub", help="A model of the hub, as organisation/name.")
@click.option("--provider", help="A configured provider; its name for the model is --name.")
@click.option("--name", help="What the provider calls the model (default: the same id).")
@click.option(
    "--type", "model_type", type=click.Choice(["llm", "rerank", "embedding"]), default="llm", show_default=True
)
@click.option("--metadata", type=json_object, help="Whatever you want to keep with it.")
@speaks_to_server
@json_option
def register(
    client: Client,
    model_id: str,
    path: Path | None,
    hub: str | None,
    provider: str | None,
    name: str | None,
    model_type: str,
    metadata: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Give a model an id. The server's settings `model_roots` and `hub_models` say which may be named.

    \b
    Examples:
      paddock models register small --hub HuggingFaceTB/SmolLM2-135M-Instruct
      paddock models register mine --path /models/mine
      paddock models register judge --provider lab --name llama-3.3-70b
      paddock models register minilm --hub cross-encoder/ms-marco-MiniLM-L6-v2 --type rerank"""
    if sum(given is not None for given in (path, hub, provider)) != 1:
        raise click.UsageError("Say where the model is, by one of --path, --hub and --provider.")
    if name is not None and provider is None:
        raise click.UsageError("--name goes with --provider.")
    folder = None if path is None else str(path.expanduser().absolute())
    body = {
        "model_id": model_id,
        "provider_id": provider or _LOCAL,
        "provider_model_id": folder or hub or name or model_id,
        "model_type": model_type,
        "metadata": metadata or {},
    }
    answer = client.post("/v1/models", body)
    if as_json:
        terminal.print_json(answer)
        return
    click.echo(f"{model_id} is registered.")


@models.command()
@click.argument("model_id")
@speaks_to_server
def delete(client: Client, model_id: str) -> None:
    """Forget a registered model; its files stay where they are.

    Example: paddock models delete small"""
    client.delete(f"/v1/models/{quoted(model_id)}")
    click.echo(f"{model_id} is forgotten; its files stay.")

"""`paddock models`: what can be trained, judged and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paddock import terminal
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted

_LOCAL = "local"


@click.group()
def models() -> None:
    """Models: folders, hub ids, those of remote servers, and checkpoints."""


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
    table = terminal.table("Model", "Type", "Provider", "There known as")
    for model in answer["data"]:
        columns = ("identifier", "model_type", "provider_id", "provider_resource_id")
        table.add_row(*(terminal.cell(model.get(column)) for column in columns))
    terminal.out().print(table)


@models.command()
@click.argument("model_id")
@speaks_to_server
def show(client: Client, model_id: str) -> None:
    """Show one model, as JSON.

    Example: paddock models show small"""
    terminal.print_json(client.get(f"/v1/models/{quoted(model_id)}"))


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

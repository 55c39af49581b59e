"""`paddock providers`: where the server's models come from."""

from __future__ import annotations

import click

from paddock import terminal
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted


@click.group()
def providers() -> None:
    """Providers: where models come from."""


@providers.command("list")
@speaks_to_server
@json_option
def list_(client: Client, as_json: bool) -> None:
    """List the providers.

    Example: paddock providers list"""
    answer = client.get("/v1/providers")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Provider", "Type", "API")
    for provider in answer["data"]:
        table.add_row(*(terminal.cell(provider[column]) for column in ("provider_id", "provider_type", "api")))
    terminal.out().print(table)


@providers.command()
@click.argument("provider_id")
@speaks_to_server
def show(client: Client, provider_id: str) -> None:
    """Show one provider, as JSON; its address and its key are not shown.

    Example: paddock providers show local"""
    terminal.print_json(client.get(f"/v1/providers/{quoted(provider_id)}"))

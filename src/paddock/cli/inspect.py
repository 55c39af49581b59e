"""`paddock inspect`: the server itself."""

from __future__ import annotations

import click

from paddock import terminal
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client


@click.group()
def inspect() -> None:
    """The server: is it there, which version, which routes."""


@inspect.command()
@speaks_to_server
@json_option
def health(client: Client, as_json: bool) -> None:
    """Ask whether the server answers; exit code 1 if it does not.

    Example: paddock inspect health"""
    answer = client.get("/v1/health")
    if as_json:
        terminal.print_json(answer)
        return
    click.echo(f"{client.url}: {answer['status']}")


@inspect.command()
@speaks_to_server
@json_option
def version(client: Client, as_json: bool) -> None:
    """Show the version of the server; `paddock --version` is that of this command line.

    Example: paddock inspect version"""
    answer = client.get("/v1/version")
    if as_json:
        terminal.print_json(answer)
        return
    click.echo(f"{client.url}: Paddock {answer['version']}")


@inspect.command()
@speaks_to_server
@json_option
def routes(client: Client, as_json: bool) -> None:
    """List the routes of the server.

    Example: paddock inspect routes"""
    answer = client.get("/v1/inspect/routes")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Method", "Route")
    for route in answer["data"]:
        table.add_row(route["method"], terminal.cell(route["route"]))
    terminal.out().print(table)

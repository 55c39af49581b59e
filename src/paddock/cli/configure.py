"""`paddock configure`: keep which server the commands speak to."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from paddock.cli import remembered
from paddock.cli.options import printable_key
from paddock.cli.remembered import Server
from paddock.client import DEFAULT_URL, Client, ClientError


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname:
            return value.rstrip("/")
    except ValueError:
        pass
    raise click.BadParameter(f"write it as {DEFAULT_URL}")


def _known_address() -> str:
    try:
        return remembered.url()
    except click.ClickException:  # what is broken is about to be written anew
        return DEFAULT_URL


@click.command()
@click.option("--url", callback=_address, prompt="Address of the server", default=_known_address, help="Of the server.")
@click.option(
    "--api-key",
    callback=printable_key,
    prompt="Key (empty if it has none)",
    default="",
    hide_input=True,
    show_default=False,
    help="For that server; asked for where it is absent, so that no other user of this machine sees it.",
)
def configure(url: str, api_key: str | None) -> None:
    """Keep the address of a server, and a key for it, for the commands that name none.

    Example: paddock configure --url http://127.0.0.1:8321"""
    remembered.write(Server(url, api_key))
    click.echo(f"Commands speak to {url} now{' with this key' if api_key else ''}. It is kept in {remembered.file()}.")
    try:
        with Client(url, api_key=api_key) as client:
            client.get("/v1/version")
    except ClientError as error:
        click.echo(f"It does not answer as it should, though: {error.detail}", err=True)

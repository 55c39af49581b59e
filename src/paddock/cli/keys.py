"""`paddock keys`: keys that clients show to a server. Made here, known to the server by their hashes alone."""

from __future__ import annotations

import secrets

import click

from paddock import settings

_NUM_BYTES = 32


@click.group()
def keys() -> None:
    """Keys that clients show to a server."""


@keys.command("new")
@click.option("--name", default="default", show_default=True, help="What the key is called in the log.")
@click.option(
    "--role", type=click.Choice(["read", "write"]), default="write", show_default=True, help="What the key allows."
)
def new(name: str, role: str) -> None:
    """Make a key and print it, once, with the entry for the server's configuration.

    Example: paddock keys new --name ci --role read"""
    key = f"pdk_{secrets.token_urlsafe(_NUM_BYTES)}"
    try:
        entry = settings.ApiKey.model_validate({"key_sha256": settings.sha256_of_key(key), "name": name, "role": role})
    except ValueError:
        raise click.BadParameter("1 to 64 printable ASCII characters without spaces", param_hint="--name") from None
    click.echo(key)
    click.echo(
        "\nClients send it as PADDOCK_API_KEY, or `Authorization: Bearer KEY`. It is shown this once.\n"
        "The server's configuration knows it by this entry:\n\n"
        "api_keys:\n"
        f'  - {{key_sha256: {entry.key_sha256}, name: "{entry.name}", role: {entry.role}}}',
        err=True,
    )

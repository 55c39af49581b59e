"""Which server the commands speak to where nothing says it: what `paddock configure` wrote, for this user alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import click
import yaml

from paddock.client import DEFAULT_URL


class Server(NamedTuple):
    """A server's address, and the key for it if it has keys."""

    url: str
    api_key: str | None


def file() -> Path:
    """Where it is kept: the variable PADDOCK_CLIENT_FILE, or the usual folder for settings."""
    named = os.environ.get("PADDOCK_CLIENT_FILE")
    return Path(named) if named else Path(click.get_app_dir("paddock")) / "client.yaml"


def read() -> Server | None:
    """What was kept, if anything. Raises `ClickException` if it cannot be read."""
    try:
        found = yaml.safe_load(file().read_text(encoding="utf-8"))
        return Server(str(found["url"]), found.get("api_key"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        raise click.ClickException(f"{file()} cannot be read. `paddock configure` writes it anew.") from None


def url() -> str:
    """The address that commands take where neither `--url` nor PADDOCK_URL gives one."""
    server = read()
    return DEFAULT_URL if server is None else server.url


def key_for(url: str) -> str | None:
    """The key that was kept for this very address."""
    server = read()
    return server.api_key if server is not None and server.url == url.rstrip("/") else None


def write(server: Server) -> None:
    """Keep it in a file that nobody else can read, also while it is being written."""
    path = file()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        yaml.safe_dump({name: value for name, value in server._asdict().items() if value is not None}, opened)
    partial.replace(path)

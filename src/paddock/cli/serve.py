"""`paddock serve`: one server on one data directory, until it is told to end."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from paddock import settings as settings_module
from paddock.errors import PaddockError
from paddock.settings import Settings

log = logging.getLogger("paddock.server")


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A YAML file with settings.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where all state lies (default ~/.paddock).")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one (default 8321).")
@click.option("--allow-anyone", is_flag=True, default=None, help="Listen beyond loopback without keys.")
@click.option("--replace", is_flag=True, help="Let registered resources of the configuration replace older ones.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def serve(
    config: Path | None,
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    allow_anyone: bool | None,
    replace: bool,
    log_level: str,
) -> None:
    """Serve the API on 127.0.0.1:8321 until Ctrl-C."""
    try:
        settings = settings_module.load(config, data_dir=data_dir, host=host, port=port, allow_anyone=allow_anyone)
        _run(settings, settings_module.unread_variables(config), replace=replace, log_level=log_level)
    except PaddockError as error:
        raise click.ClickException(error.detail) from None


def _run(settings: Settings, unread_variables: list[str], *, replace: bool, log_level: str) -> None:
    # Imported here: `--help` and a wrong setting need none of it.
    from paddock.server import logs
    from paddock.server.serving import serve_forever

    logs.configure(log_level, settings.log_format)
    if unread_variables:
        log.warning("Nothing reads these variables of the environment: %s.", ", ".join(unread_variables))
    serve_forever(settings, replace=replace)

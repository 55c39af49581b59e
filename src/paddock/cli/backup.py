"""`paddock backup`: a copy of a server's state, while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from paddock import settings as settings_module
from paddock.cli.options import told_in_words
from paddock.errors import InvalidRequestError
from paddock.storage.data_dir import DataDir


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="The YAML file that the server uses.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The server's data directory (default ~/.paddock).")
def backup(folder: Path, config: Path | None, data_dir: Path | None) -> None:
    """Copy all state into FOLDER, whether or not the server runs: database, checkpoints, where jobs go on, logs.

    Start a server on the copy with  paddock serve --data-dir FOLDER

    Example: paddock backup /backups/monday"""
    with told_in_words():
        settings = settings_module.load(config, data_dir=data_dir)
        if settings.database_url != "sqlite":
            raise InvalidRequestError(
                "This server's database is PostgreSQL: copy it with `pg_dump`, then the data directory's files. "
                "`paddock backup` copies servers on SQLite."
            )
        # Imported here: `--help` and a wrong setting need none of it.
        from paddock.storage.backup import back_up

        back_up(DataDir(settings.data_dir, settings.checkpoint_root), folder)
    click.echo(f"Copied to {folder}. Start a server on it with  paddock serve --data-dir {folder}")

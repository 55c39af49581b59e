"""`paddock quickstart`: see the whole loop work, in minutes, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the state there (default: a new folder)."
)
@click.option(
    "--keep/--no-keep", default=True, show_default=True, help="Whether a folder of its own stays for you to serve from."
)
def quickstart(data_dir: Path | None, keep: bool) -> None:
    """Make a small model measurably better through a server: data, evaluation, fine-tuning, evaluation.

    It starts a server of its own on a free port, and ends it. Nothing is downloaded.

    Example: paddock quickstart --data-dir ./quickstart"""
    from paddock.quickstart import walkthrough

    sys.exit(walkthrough.run(data_dir, keep=keep))

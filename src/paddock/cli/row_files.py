"""Rows in a local file: JSON lines, or another format that sources have, told by its name. A row is checked for its form
and passed on as it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from paddock.datasets import formats, remote, rows
from paddock.datasets.rows import OnUnreadable, SourceError

ROW_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an argument that is such a file."""


class RowFile(NamedTuple):
    """A file whose every row was looked at."""

    path: Path
    num_rows: int
    sha256: str


_OTHER_SUFFIXES = (".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".gz", ".zst")
"""Read as sources are; `.gz` and `.zst` stand behind the suffix of what is in them. Any other file has JSON lines."""


def read_rows(path: Path, on_unreadable: OnUnreadable = rows.refuse) -> Iterator[bytes]:
    """Each row as JSON: as the file has it, where it has JSON. Raises `ClickException` naming what cannot be read;
    `on_unreadable` hears of it first where it is a single row, of JSON, CSV or TSV, and may let the others pass."""
    name = remote.extension(path.name) if path.suffix.lower() in _OTHER_SUFFIXES else "jsonl"
    with path.open("rb") as file:
        try:
            source = formats.read((name,), file, {}, on_unreadable)
            for row in source.texts:
                yield row.encode()
        except SourceError as error:
            hint = "" if name != "jsonl" else f" Files other than JSON lines are named {', '.join(_OTHER_SUFFIXES)}."
            raise click.ClickException(f"{path} cannot be read. {error.detail}{hint}") from None
    if source.num_nan_values:
        click.echo(
            f"{source.num_nan_values:,} of the values of {path} are NaN or infinite, and null in the rows.", err=True
        )


def check(path: Path, on_unreadable: OnUnreadable = rows.refuse) -> RowFile:
    """Read a whole file once, so that a wrong line is found before a row is sent."""
    digest = hashlib.sha256()
    num_rows = 0
    for row in read_rows(path, on_unreadable):
        digest.update(row + b"\n")
        num_rows += 1
    return RowFile(path, num_rows, digest.hexdigest())

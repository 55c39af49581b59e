"""Rows in a local file: JSON lines, or another format that sources have, told by its name. A row is checked for its form
and passed on as it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from paddock.datasets import formats, remote
from paddock.datasets.rows import SourceError, SourceRows

ROW_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an argument that is such a file."""


class RowFile(NamedTuple):
    """A file whose every row was looked at."""

    path: Path
    num_rows: int
    sha256: str


_OTHER_SUFFIXES = (".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".gz", ".zst")
"""Read as sources are; `.gz` and `.zst` stand behind the suffix of what is in them. Any other file has JSON lines."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_rows(path: Path) -> Iterator[bytes]:
    """Each row as JSON: as the file has it, where it has JSON. Raises `ClickException` naming what cannot be read."""
    if path.suffix.lower() in _OTHER_SUFFIXES:
        yield from _read_other(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not row:
                continue
            try:
                _object.decode(row)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise click.ClickException(
                    f"Line {number} of {path} is not a JSON object: {error}. A file of rows has one object a line; "
                    "others are named {', '.join(_OTHER_SUFFIXES)}."
                ) from None
            yield row


def _read_other(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        try:
            source: SourceRows = formats.read((remote.extension(path.name),), file, {})
            for row in source.texts:
                yield row.encode()
        except SourceError as error:
            raise click.ClickException(f"{path} cannot be read. {error.detail}") from None
    if source.num_nan_values:
        click.echo(
            f"{source.num_nan_values:,} of the values of {path} are NaN or infinite, and null in the rows.", err=True
        )


def check(path: Path) -> RowFile:
    """Read a whole file once, so that a wrong line is found before a row is sent."""
    digest = hashlib.sha256()
    num_rows = 0
    for row in read_rows(path):
        digest.update(row + b"\n")
        num_rows += 1
    return RowFile(path, num_rows, digest.hexdigest())

"""Rows in a local file of JSON Lines: one object a line. A row is checked for its form and passed on as it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec


class RowFile(NamedTuple):
    """A file whose every row was looked at."""

    path: Path
    num_rows: int
    sha256: str


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_rows(path: Path) -> Iterator[bytes]:
    """Each row as the file has it, blank lines left out. Raises `ClickException` naming the first line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not row:
                continue
            try:
                _object.decode(row)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise click.ClickException(
                    f"Line {number} of {path} is not a JSON object: {error}. A file of rows has one object a line."
                ) from None
            yield row


def check(path: Path) -> RowFile:
    """Read a whole file once, so that a wrong line is found before a row is sent."""
    digest = hashlib.sha256()
    num_rows = 0
    for row in read_rows(path):
        digest.update(row + b"\n")
        num_rows += 1
    return RowFile(path, num_rows, digest.hexdigest())

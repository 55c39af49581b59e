"""Spreadsheets (.xlsx) as rows of JSON text: the first sheet, under the names of its first row.

openpyxl is an extra, imported only where a file is read. Numbers, booleans and dates keep their type, a formula counts
as the value that was last computed for it, an empty cell as null.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from paddock.datasets.columnar import num_nan
from paddock.datasets.rows import SourceError, SourceRows

_MAX_BYTES = 1024 * 1024 * 1024
_MAX_RATIO = 200
_SLACK_BYTES = 1024 * 1024
"""How much a file's parts may hold, unpacked: so much, and not so many times its size."""

_MAX_ROWS = 1_048_576  # of a sheet, by its format
_MAX_CELLS_PER_BYTE = 10
"""How many cells a sheet may hold for each unpacked byte, those between written ones too: one far out makes a row wide."""


def read_xlsx(file: BinaryIO) -> SourceRows:
    """A row a row of a seekable file's first sheet. Raises `SourceError`, also while rows are read."""
    source_rows = SourceRows(())
    source_rows.texts = _texts(file, source_rows)
    return source_rows


def _texts(file: BinaryIO, source_rows: SourceRows) -> Iterator[str]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise SourceError(
            "Spreadsheets are read with openpyxl, which is not installed: install Paddock with its extra `xlsx`."
        ) from None
    number = 1
    try:
        max_cells = _MAX_CELLS_PER_BYTE * _unpacked_size(file)
        workbook = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = workbook.worksheets[0]
            sheet.reset_dimensions()  # what the sheet says of its size may be anything; openpyxl would fill it up
            cells = sheet.iter_rows(values_only=True)
            names = _names(next(cells, ()))
            for number, values in enumerate(cells, start=2):  # named in the error below
                max_cells -= len(values)
                if number > _MAX_ROWS or max_cells < 0:
                    raise SourceError(f"The source's sheet is all but empty up to its row {number}.")
                if values.count(None) == len(values):
                    continue
                if any(value is not None for value in values[len(names) :]):
                    raise SourceError(f"Row {number} of the source's sheet has a value under no column name.")
                row = dict.fromkeys(names) | dict(zip(names, values, strict=False))
                source_rows.num_nan_values += num_nan(row)
                yield msgspec.json.encode(row).decode()
        finally:
            workbook.close()
    except SourceError:
        raise
    # openpyxl meets broken files with whatever its parsers raise.
    except Exception as error:
        raise SourceError(f"The source cannot be read as a spreadsheet, at row {number}: {error}") from None


def _unpacked_size(file: BinaryIO) -> int:
    """The bytes of all parts. Raises `SourceError` if they are too many."""
    with zipfile.ZipFile(file) as parts:
        num_bytes = sum(part.file_size for part in parts.infolist())
    size = file.seek(0, 2)
    file.seek(0)
    if num_bytes > min(_MAX_BYTES, _MAX_RATIO * size + _SLACK_BYTES):
        raise SourceError("The source is a spreadsheet that is compressed beyond measure.")
    return num_bytes


def _names(values: tuple[Any, ...]) -> list[str]:
    names = list(values)
    while names and names[-1] is None:
        names.pop()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SourceError("The source's first row does not name every column.")
    if len(set(names)) < len(names):
        raise SourceError("The source has a column name twice.")
    return names

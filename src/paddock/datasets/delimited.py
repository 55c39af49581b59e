"""CSV and TSV as rows of JSON text: a row a record, under the names of the header.

Every value stays text, an empty one too, so that `007` is no 7; but for columns that are declared to be something else.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import msgspec

from paddock.datasets import rows
from paddock.datasets.rows import OnUnreadable, SourceError, SourceRows

ColumnTypes = Mapping[str, str]
"""Column → one of `COLUMN_TYPES`."""

# Python's default is 128 KB a field, and conversations are longer. The limit is the process's; nothing else reads CSV.
csv.field_size_limit(rows.MAX_ROW_BYTES)

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def read_csv(file: BinaryIO, column_types: ColumnTypes, on_unreadable: OnUnreadable = rows.refuse) -> SourceRows:
    """Values between commas. Raises `SourceError`, also while rows are read."""
    return SourceRows(_texts(file, ",", column_types, on_unreadable))


def read_tsv(file: BinaryIO, column_types: ColumnTypes, on_unreadable: OnUnreadable = rows.refuse) -> SourceRows:
    """Values between tabs. Raises `SourceError`, also while rows are read."""
    return SourceRows(_texts(file, "\t", column_types, on_unreadable))


def check_column_types(column_types: Any) -> ColumnTypes:
    """What a registration declares in `metadata.column_types`. Raises `ValueError`, its message a predicate."""
    if not isinstance(column_types, dict):
        raise ValueError("is not an object of column names and their types")
    for column, name in column_types.items():
        if name not in COLUMN_TYPES:
            raise ValueError(f"declares {column!r} as {name!r}, which is none of {', '.join(COLUMN_TYPES)}")
    return column_types


def _texts(file: BinaryIO, delimiter: str, column_types: ColumnTypes, on_unreadable: OnUnreadable) -> Iterator[str]:
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True, delimiter=delimiter)
    encode = msgspec.json.Encoder().encode
    try:
        header = _header(next(reader, None), column_types)
        typed = [(index, column_types[name]) for index, name in enumerate(header) if name in column_types]
        for record in reader:
            if not record:
                continue
            try:
                values = _values(record, header, typed)
            except ValueError as problem:
                on_unreadable(SourceError(f"Line {reader.line_num} of the source has {problem}."))
                continue
            yield encode(dict(zip(header, values, strict=True))).decode()
    except UnicodeDecodeError:
        raise SourceError(f"The source is not valid UTF-8, somewhere after line {reader.line_num}.") from None
    except csv.Error as error:
        raise SourceError(f"Line {reader.line_num} of the source is not CSV: {error}.") from None


def _values(record: list[str], header: list[str], typed: list[tuple[int, str]]) -> list[Any]:
    """A record's values, those at the `typed` indices as what they are declared to be. Raises `ValueError`, its message
    what is there instead."""
    if len(record) != len(header):
        raise ValueError(f"{len(record)} values for {len(header)} columns")
    values: list[Any] = record
    for index, name in typed:
        try:
            values[index] = COLUMN_TYPES[name](record[index])
        except ValueError:
            raise ValueError(f"no {name} in the column {header[index]!r}") from None
    return values


def _header(header: list[str] | None, column_types: ColumnTypes) -> list[str]:
    if not header:
        raise SourceError("The source has no header line with the names of its columns.")
    if len(set(header)) < len(header):
        raise SourceError("The source's header has a column name twice.")
    missing = [column for column in column_types if column not in header]
    if missing:
        raise SourceError(f"The source has no column {missing[0]!r}, which is declared in `metadata.column_types`.")
    return header


def _digits(pattern: re.Pattern[str]) -> Callable[[str], Any]:
    def convert(text: str) -> msgspec.Raw | None:
        text = text.strip()
        if not text:
            return None
        if pattern.fullmatch(text) is None:
            raise ValueError
        return msgspec.Raw(text.encode())  # its digits as they stand

    return convert


def _boolean(text: str) -> bool | None:
    text = text.strip().lower()
    if text not in ("", "true", "false"):
        raise ValueError
    return None if not text else text == "true"


def _json(text: str) -> msgspec.Raw | None:
    if not text.strip():
        return None
    return rows.value_text(text)


COLUMN_TYPES: dict[str, Callable[[str], Any]] = {
    "string": lambda text: text,
    "integer": _digits(_INTEGER),
    "number": _digits(_NUMBER),
    "boolean": _boolean,
    "json": _json,
}
"""What a column can be declared as; of all but `string` an empty value is null."""

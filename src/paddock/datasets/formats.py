"""Files of rows as JSON text: JSON lines, JSON, CSV; Parquet stands in `parquet`. And telling which one a file is.

JSON lines, CSV and Parquet are read as a stream; a JSON document is read whole, so its size has a limit. Rows of JSON
keep the very text they had.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from paddock.datasets import parquet, rows
from paddock.datasets.rows import RowError, SourceError, SourceRows

MAX_JSON_BYTES = 256 * 1024 * 1024
"""The largest JSON document; larger data comes as JSON lines."""

_BOM = b"\xef\xbb\xbf"

# Python's default is 128 KB a field, and conversations are longer. The limit is the process's; nothing else reads CSV.
csv.field_size_limit(rows.MAX_ROW_BYTES)


def read_jsonl(file: BinaryIO) -> SourceRows:
    """A row on each line; blank lines are passed over."""
    return SourceRows(_jsonl_texts(file))


def _jsonl_texts(file: BinaryIO) -> Iterator[str]:
    number = 0
    while line := file.readline(rows.MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > rows.MAX_ROW_BYTES:
            raise SourceError(f"Line {number} of the source is longer than {rows.MAX_ROW_BYTES} bytes.")
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            yield rows.text(line)
        except ValueError as error:
            raise SourceError(f"Line {number} of the source {error}.") from None


def read_json(file: BinaryIO) -> SourceRows:
    """An array of rows, or an object that has one as its `rows` or `data`."""
    document = file.read(MAX_JSON_BYTES + 1).removeprefix(_BOM)
    if len(document) > MAX_JSON_BYTES:
        raise SourceError(f"The source is a JSON document over {MAX_JSON_BYTES} bytes: send it as JSON lines.")
    array: bytes | msgspec.Raw | None = document
    try:
        if document.lstrip().startswith(b"{"):
            members = rows.open_object(document)
            array = members.get("rows", members.get("data"))
        if array is None:
            raise SourceError("The source is a JSON object without `rows` or `data`.")
        return SourceRows(rows.texts(rows.open_array(array)))
    except RowError as error:
        raise SourceError(f"Row {error.index} of the source {error}.") from None
    except ValueError as error:
        raise SourceError(f"The source {error}.") from None


def read_csv(file: BinaryIO) -> SourceRows:
    """A row a record, under the names of the header; every value stays text, an empty one too."""
    return SourceRows(_csv_texts(file))


def _csv_texts(file: BinaryIO) -> Iterator[str]:
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
    encode = msgspec.json.Encoder().encode
    try:
        header = next(reader, None)
        if not header:
            raise SourceError("The source has no header line with the names of its columns.")
        if len(set(header)) < len(header):
            raise SourceError("The source's header has a column name twice.")
        for record in reader:
            if not record:
                continue
            if len(record) != len(header):
                raise SourceError(
                    f"Line {reader.line_num} of the source has {len(record)} values for {len(header)} columns."
                )
            yield encode(dict(zip(header, record, strict=True))).decode()
    except UnicodeDecodeError:
        raise SourceError(f"The source is not valid UTF-8, somewhere after line {reader.line_num}.") from None
    except csv.Error as error:
        raise SourceError(f"Line {reader.line_num} of the source is not CSV: {error}.") from None


READERS: dict[str, Callable[[BinaryIO], SourceRows]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": parquet.read_parquet,
}

_NAMES = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "x-ndjson": "jsonl",
    "jsonlines": "jsonl",
    "x-jsonlines": "jsonl",
    "json": "json",
    "csv": "csv",
    "parquet": "parquet",
    "x-parquet": "parquet",
    "vnd.apache.parquet": "parquet",
}
"""A file's extension, or the part of a media type behind the slash → the format."""

_NAMES_OF_ANYTHING = ("", "txt", "plain", "octet-stream", "bin")


def format_of(name: str, file: BinaryIO) -> str:
    """The format of a seekable file, by what it is called (extension or media subtype) and its first bytes.

    Raises `SourceError` if neither tells."""
    named = _NAMES.get(name.lower())
    if named is None and name.lower() not in _NAMES_OF_ANYTHING:
        raise SourceError(f"{name!r} is no format that is read here: {', '.join(READERS)}.")
    found = _by_content(named, file)
    file.seek(0)
    if found is None:
        raise SourceError(f"The source does not say its format; name one of {', '.join(READERS)}.")
    return found


def _by_content(named: str | None, file: BinaryIO) -> str | None:
    if file.read(4) == b"PAR1":
        return "parquet"
    if named in ("csv", "parquet", "jsonl"):
        return named
    file.seek(0)
    first_line = file.readline(rows.MAX_ROW_BYTES).removeprefix(_BOM)
    if first_line.lstrip().startswith(b"{") and _is_row(first_line):
        # JSON lines are often called .json. A single line may be either; its name says which.
        return "jsonl" if named is None or file.read(4096).strip() else "json"
    if named is None and first_line.lstrip()[:1] not in (b"{", b"["):
        return None
    return "json"


def _is_row(line: bytes) -> bool:
    try:
        rows.text(line)
    except ValueError:
        return False
    return True

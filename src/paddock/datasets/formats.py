"""Files of rows as JSON text, compressed or not: telling which format one has, and reading JSON lines and JSON. The other
formats stand in `delimited`, `columnar` and `spreadsheet`.

All are read as a stream but a JSON document, which is read whole, so that its size has a limit. Rows of JSON keep the very
text they had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from paddock.datasets import columnar, compression, delimited, rows, spreadsheet
from paddock.datasets.delimited import ColumnTypes
from paddock.datasets.rows import OnUnreadable, SourceError, SourceRows

MAX_JSON_BYTES = 256 * 1024 * 1024
"""The largest JSON document; larger data comes as JSON lines."""

_BOM = b"\xef\xbb\xbf"


def read_jsonl(file: BinaryIO, on_unreadable: OnUnreadable = rows.refuse) -> SourceRows:
    """A row on each line; blank lines are passed over."""
    return SourceRows(_jsonl_texts(file, on_unreadable))


def _jsonl_texts(file: BinaryIO, on_unreadable: OnUnreadable) -> Iterator[str]:
    number = 0
    while line := file.readline(rows.MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > rows.MAX_ROW_BYTES:
            on_unreadable(SourceError(f"Line {number} of the source is longer than {rows.MAX_ROW_BYTES} bytes."))
            while line and not line.endswith(b"\n"):
                line = file.readline(rows.MAX_ROW_BYTES)
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            text = rows.text(line)
        except ValueError as error:
            on_unreadable(SourceError(f"Line {number} of the source {error}."))
            continue
        yield text


def read_json(file: BinaryIO, on_unreadable: OnUnreadable = rows.refuse) -> SourceRows:
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
        return SourceRows(rows.readable_texts(rows.open_array(array), on_unreadable))
    except ValueError as error:
        raise SourceError(f"The source {error}.") from None


_JSON_READERS: dict[str, Callable[[BinaryIO, OnUnreadable], SourceRows]] = {"jsonl": read_jsonl, "json": read_json}
_TYPED_READERS: dict[str, Callable[[BinaryIO], SourceRows]] = {
    "parquet": columnar.read_parquet,
    "arrow": columnar.read_arrow,
    "xlsx": spreadsheet.read_xlsx,
}
_TEXT_READERS: dict[str, Callable[[BinaryIO, ColumnTypes, OnUnreadable], SourceRows]] = {
    "csv": delimited.read_csv,
    "tsv": delimited.read_tsv,
}
"""Those whose values have no type of their own."""

FORMATS = (*_JSON_READERS, *_TYPED_READERS, *_TEXT_READERS)
_NEED_SEEKING = ("parquet", "arrow", "xlsx")


def read(
    names: Sequence[str], file: BinaryIO, column_types: ColumnTypes, on_unreadable: OnUnreadable = rows.refuse
) -> SourceRows:
    """The rows of a seekable file, compressed or not. `names` are what it is called, the surest first: media subtypes,
    extensions. `on_unreadable` hears of single rows of JSON, CSV and TSV that cannot be read.

    Raises `SourceError`, also while rows are read."""
    content = file
    if compression.is_compressed(file):
        name = format_of(names, compression.unfold(file))
        file.seek(0)
        content = compression.unfold(file)
        if name in _NEED_SEEKING:
            content = compression.seekable(content)
    else:
        name = format_of(names, file)
        file.seek(0)
    if name in _TEXT_READERS:
        return _TEXT_READERS[name](content, column_types, on_unreadable)
    if column_types:
        raise SourceError(f"The source is {name}, whose values have types: `metadata.column_types` is for CSV and TSV.")
    if name in _JSON_READERS:
        return _JSON_READERS[name](content, on_unreadable)
    return _TYPED_READERS[name](content)


_NAMES = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "x-ndjson": "jsonl",
    "jsonlines": "jsonl",
    "x-jsonlines": "jsonl",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv",
    "tab-separated-values": "tsv",
    "parquet": "parquet",
    "x-parquet": "parquet",
    "vnd.apache.parquet": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "vnd.apache.arrow.file": "arrow",
    "vnd.apache.arrow.stream": "arrow",
    "xlsx": "xlsx",
    "vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
"""A file's extension, or the part of a media type behind the slash → the format."""

_NAMES_OF_ANYTHING = ("", "txt", "plain", "octet-stream", "bin", "gzip", "x-gzip", "gz", "zstd", "zst")

_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow", b"PK\x03\x04": "xlsx"}


def format_of(names: Sequence[str], file: BinaryIO) -> str:
    """The format of a file at its beginning, by what it is called (media subtype, extension) and its first bytes. Reads
    on from there.

    Raises `SourceError` if neither tells."""
    known = [_NAMES[name.lower()] for name in names if name.lower() in _NAMES]
    strange = [name for name in names if name.lower() not in (*_NAMES, *_NAMES_OF_ANYTHING)]
    if not known and strange:
        raise SourceError(f"{strange[0]!r} is no format that is read here: {', '.join(FORMATS)}.")
    found = _by_content(known[0] if known else None, file)
    if found is None:
        raise SourceError(f"The source does not say its format; name one of {', '.join(FORMATS)}.")
    return found


def _by_content(named: str | None, file: BinaryIO) -> str | None:
    start = file.read(6)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    if named not in (None, "json"):
        return named
    line, newline, behind = (start if b"\n" in start else start + file.readline(rows.MAX_ROW_BYTES)).partition(b"\n")
    first_line = (line + newline).removeprefix(_BOM)
    if first_line.lstrip().startswith(b"{") and _is_row(first_line):
        # JSON lines are often called .json. A single line may be either; its name says which.
        return "jsonl" if named is None or (behind + file.read(4096)).strip() else "json"
    if named is None and first_line.lstrip()[:1] not in (b"{", b"["):
        return None
    return "json"


def _is_row(line: bytes) -> bool:
    try:
        rows.text(line)
    except ValueError:
        return False
    return True

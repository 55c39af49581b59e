"""Parquet and Arrow files as rows of JSON text. pyarrow is an extra and slow to import, so it is, only where a file is
read.

Typed values become what JSON has for them, nothing is rounded: times are ISO 8601, decimals the text of their digits,
bytes base64, and a column of the type JSON is what its texts say. NaN and Infinity, which JSON has not, become null and
are counted.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from paddock.datasets import rows
from paddock.datasets.rows import SourceError, SourceRows

BATCH_ROWS = 1000

_BATCH_BYTES = 64 * 1024 * 1024
"""What the values of a batch may hold where each might be the longest that there is: one that is written once may be the
value of every row."""

_SMALL_BYTES = 8 * 1024 * 1024
"""Such files are read in the server's own process. Of larger ones a job takes the rows by the thousand, in its process."""

_MAX_RATIO = 200
_SLACK_BYTES = 32 * 1024 * 1024
"""What a file's columns may hold, unpacked: so much, or so many times its size."""


def read_parquet(file: BinaryIO) -> SourceRows:
    """A row a record of a seekable Parquet file. Raises `SourceError` if pyarrow is missing or cannot read it."""
    return _read(file, "Parquet", _parquet_batches)


def read_arrow(file: BinaryIO) -> SourceRows:
    """A row a record of a seekable Arrow file or stream (Feather is one). Raises `SourceError` as `read_parquet`."""
    return _read(file, "Arrow", _arrow_batches)


def batch_texts(batch: Any, source_rows: SourceRows) -> Iterator[str]:
    """The rows of a pyarrow batch or table; NaN and Infinity are counted in `source_rows`."""
    json_columns = [field.name for field in batch.schema if _is_json(field.type)]
    for row in batch.to_pylist(maps_as_pydicts="strict"):
        for name in json_columns:
            if row[name] is not None:
                row[name] = rows.value_text(row[name])
        source_rows.num_nan_values += num_nan(row)
        yield msgspec.json.encode(row, enc_hook=_isoformat).decode()


def _is_json(data_type: Any) -> bool:
    return getattr(data_type, "extension_name", None) == "arrow.json"


def num_nan(value: Any) -> int:
    """How many floats in a value, at any depth, are none that JSON has. msgspec writes them as null."""
    if isinstance(value, float):
        return 0 if math.isfinite(value) else 1
    if isinstance(value, dict):
        return sum(map(num_nan, value.values()))
    if isinstance(value, list):
        return sum(map(num_nan, value))
    return 0


def _read(file: BinaryIO, name: str, batches: Callable[[BinaryIO], Iterator[Any]]) -> SourceRows:
    source_rows = SourceRows(())
    source_rows.texts = _texts(file, name, batches, source_rows)
    return source_rows


def _texts(
    file: BinaryIO, name: str, batches: Callable[[BinaryIO], Iterator[Any]], source_rows: SourceRows
) -> Iterator[str]:
    try:
        import pyarrow
    except ImportError:
        raise SourceError(
            f"{name} is read with pyarrow, which is not installed: install Paddock with its extra `parquet`."
        ) from None
    num_rows = 0
    try:
        for batch in batches(file):
            for text in batch_texts(batch, source_rows):
                yield text
                num_rows += 1
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise SourceError(f"The source cannot be read as {name} after {num_rows} rows: {error}") from None


def _parquet_batches(file: BinaryIO) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    parquet = ParquetFile(file)
    _check_names(parquet.schema_arrow.names)
    groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
    sizes = [group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)]
    if sum(sizes) > _MAX_RATIO * num_bytes + _SLACK_BYTES:
        raise SourceError("The source is a Parquet file that is compressed beyond measure.")
    longest = max(sizes, default=0) if num_bytes <= _SMALL_BYTES else 0
    yield from parquet.iter_batches(batch_size=_rows_at_once(longest))


def _arrow_batches(file: BinaryIO) -> Iterator[Any]:
    from pyarrow import ipc

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = ipc.open_file(file) if is_file else ipc.open_stream(file)
    _check_names(reader.schema.names)
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        longest = max((column.dictionary.nbytes for column in batch.columns if _has_dictionary(column)), default=0)
        size = _rows_at_once(longest)
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


def _has_dictionary(column: Any) -> bool:
    return hasattr(column, "dictionary")


def _rows_at_once(longest: int) -> int:
    """How many rows a batch takes, if no value has more than `longest` bytes."""
    return max(1, min(BATCH_ROWS, _BATCH_BYTES // max(longest, 1)))


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise SourceError("The source has a column name twice.")


def _isoformat(value: Any) -> str:
    # Where pandas is installed, pyarrow gives times in nanoseconds as its Timestamp and Timedelta.
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"values of the type {type(value).__name__} have no form in JSON")

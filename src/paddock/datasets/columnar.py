"""Parquet and Arrow files as rows of JSON text. pyarrow is an extra and slow to import, so it is, only where a file is
read.

Typed values become what JSON has for them, nothing is rounded: times are ISO 8601, decimals the text of their digits,
bytes base64, and a column of the type JSON is what its texts say. NaN and Infinity, which JSON has not, become null and
are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from paddock.datasets import rows
from paddock.datasets.rows import SourceError, SourceRows

BATCH_ROWS = 1000


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

    parquet = ParquetFile(file)
    _check_names(parquet.schema_arrow.names)
    yield from parquet.iter_batches(batch_size=BATCH_ROWS)


def _arrow_batches(file: BinaryIO) -> Iterator[Any]:
    from pyarrow import ipc

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = ipc.open_file(file) if is_file else ipc.open_stream(file)
    _check_names(reader.schema.names)
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise SourceError("The source has a column name twice.")


def _isoformat(value: Any) -> str:
    # Where pandas is installed, pyarrow gives times in nanoseconds as its Timestamp and Timedelta.
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"values of the type {type(value).__name__} have no form in JSON")

"""Parquet files as rows of JSON text. pyarrow is an extra and slow to import, so it is, only where a file is read.

Typed values become what JSON has for them, nothing is rounded: times are ISO 8601, decimals the text of their digits,
bytes base64. NaN and Infinity, which JSON has not, become null and are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from paddock.datasets.rows import SourceError, SourceRows

_BATCH_ROWS = 1000


def read_parquet(file: BinaryIO) -> SourceRows:
    """A row a record of a seekable file. Raises `SourceError` if pyarrow is missing or cannot read it."""
    source_rows = SourceRows(())
    source_rows.texts = _texts(file, source_rows)
    return source_rows


def _texts(file: BinaryIO, source_rows: SourceRows) -> Iterator[str]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise SourceError(
            "Parquet is read with pyarrow, which is not installed: install Paddock with its extra `parquet`."
        ) from None
    num_rows = 0
    try:
        parquet = ParquetFile(file)
        names = parquet.schema_arrow.names
        if len(set(names)) < len(names):
            raise SourceError("The source has a column name twice.")
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                source_rows.num_nan_values += _num_nan(row)
                yield msgspec.json.encode(row, enc_hook=_isoformat).decode()
                num_rows += 1
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise SourceError(f"The source cannot be read as Parquet after {num_rows} rows: {error}") from None


def _num_nan(value: Any) -> int:
    """How many floats in a value, at any depth, are none that JSON has. msgspec writes them as null."""
    if isinstance(value, float):
        return 0 if math.isfinite(value) else 1
    if isinstance(value, dict):
        return sum(map(_num_nan, value.values()))
    if isinstance(value, list):
        return sum(map(_num_nan, value))
    return 0


def _isoformat(value: Any) -> str:
    # Where pandas is installed, pyarrow gives times in nanoseconds as its Timestamp and Timedelta.
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"values of the type {type(value).__name__} have no form in JSON")

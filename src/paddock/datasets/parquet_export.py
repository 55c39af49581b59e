"""Rows as a Parquet file. A column has the type of its values, and where no one type holds all of them as they are, it is of
Parquet's type JSON, with their texts.

Rows go through in lots, so that memory does not grow with them. pyarrow is imported where a file is written.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

_LOT_ROWS = 1000
_MAX_INTEGER_DIGITS = 20  # with a sign; Arrow's longest integers

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def write(path: Path, lines: Iterable[bytes]) -> list[str]:
    """Write rows, given as JSON texts of one line each. Returns the columns that had to become JSON.

    Raises `ValueError` if no row has a field: Parquet knows no rows without columns."""
    with tempfile.TemporaryFile() as spool:
        spool.writelines(line + b"\n" for line in lines)  # types are known when all rows are
        types = _types(_lots(spool))
        if not types:
            raise ValueError("No row has a field, and Parquet knows no rows without columns.")
        # What became another value under its column's type (digits beyond a double, say) makes the column JSON.
        while (unfaithful := _write_table(path, types, lambda: _lots(spool))) is not None:
            types[unfaithful] = None
    return [name for name, data_type in types.items() if data_type is None]


def _lots(file: BinaryIO) -> Iterator[list[bytes]]:
    file.seek(0)
    while lot := list(islice(file, _LOT_ROWS)):
        yield lot


def _types(lots: Iterable[list[bytes]]) -> dict[str, Any]:
    """Column → the Arrow type that its values have in common, or None if there is none."""
    import pyarrow as pa

    types: dict[str, Any] = {}
    for lot in lots:
        parsed = [_parsed(text) for text in lot]
        for name in dict.fromkeys(name for row in parsed for name in row):
            known = types.get(name, pa.null())
            if known is None:
                continue
            try:
                found = pa.array([row.get(name) for row in parsed]).type
                merged = pa.unify_schemas(
                    [pa.schema([("", known)]), pa.schema([("", found)])], promote_options="permissive"
                )
                types[name] = merged.field(0).type if _is_writable(merged.field(0).type) else None
            except (pa.ArrowException, OverflowError):
                types[name] = None
    return types


class _Unfit:
    """A number whose digits no double gives back: Arrow has no type for it, so that its column becomes JSON."""


def _double(digits: str) -> float | _Unfit:
    value = float(digits)
    return value if math.isfinite(value) and Decimal(repr(value)) == Decimal(digits) else _Unfit()


def _integer(digits: str) -> int | _Unfit:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else _Unfit()


_parse = msgspec.json.Decoder(dict[str, Any], float_hook=_double)


def _parsed(row: bytes) -> dict[str, Any]:
    try:
        return _parse.decode(row)
    except msgspec.ValidationError:  # a number out of msgspec's range
        parsed: dict[str, Any] = json.loads(row, parse_int=_integer, parse_float=_double)
        return parsed


def _is_writable(data_type: Any) -> bool:
    """Whether Parquet has this type: it knows no structure without fields."""
    inner = [data_type.field(index).type for index in range(data_type.num_fields)]
    is_structure = str(data_type).startswith("struct")
    return not (is_structure and not inner) and all(map(_is_writable, inner))


def _write_table(path: Path, types: dict[str, Any], lots: Callable[[], Iterable[list[bytes]]]) -> str | None:
    """Write all rows. Returns the first column whose type does not hold its values as they are, or None."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    json_type = pa.json_(pa.utf8())
    schema = pa.schema([(name, json_type if known is None else known) for name, known in types.items()])
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for lot in lots():
            parsed = [_parsed(text) for text in lot]
            members = [_members.decode(text) for text in lot]
            columns = []
            for name, known in types.items():
                if known is None:
                    texts = [_json(row.get(name)) for row in members]
                    columns.append(pa.ExtensionArray.from_storage(json_type, pa.array(texts, pa.utf8())))
                    continue
                values = [row.get(name) for row in parsed]
                try:
                    column = pa.array(values, known)
                except (pa.ArrowException, OverflowError):
                    return name
                if not all(map(_is_same, values, column.to_pylist())):
                    return name
                columns.append(column)
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return None


def _json(raw: msgspec.Raw | None) -> str | None:
    text = None if raw is None else str(raw, "utf-8")
    return None if text == "null" else text


def _is_same(before: Any, after: Any) -> bool:
    """Whether a value came through: a field that is absent may have become null."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(_is_same(before.get(name), value) for name, value in after.items()) and before.keys() <= after.keys()
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same, before, after))
    return bool(before == after) and isinstance(before, bool) == isinstance(after, bool)

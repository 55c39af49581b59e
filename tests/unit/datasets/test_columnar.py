from __future__ import annotations

import io
import json
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paddock.datasets.columnar import read_arrow, read_parquet
from paddock.datasets.rows import SourceError


def _file(table: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=700)
    file.seek(0)
    return file


def test_typed_values_become_what_json_has_for_them() -> None:
    columns = {
        "text": pa.array(["é"]),
        "big": pa.array([2**64 - 1], pa.uint64()),
        "price": pa.array([Decimal("12345678901234567890.10")], pa.decimal128(38, 2)),
        "day": pa.array([date(2024, 2, 29)]),
        "at": pa.array([datetime(2024, 2, 29, 12, 30, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "exact": pa.array([1_709_208_000_000_000_001], pa.timestamp("ns")),
        "clock": pa.array([time(1, 2, 3)]),
        "took": pa.array([timedelta(seconds=90)]),
        "bytes": pa.array([b"\x00\xff"]),
        "kind": pa.array(["a"]).dictionary_encode(),
        "list": pa.array([[{"x": 1.5}]]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "none": pa.array([None], pa.string()),
    }
    (text,) = read_parquet(_file(pa.table(columns))).texts
    assert json.loads(text) == {
        "text": "é",
        "big": 2**64 - 1,
        "price": "12345678901234567890.10",
        "day": "2024-02-29",
        "at": "2024-02-29T12:30:00Z",
        "exact": "2024-02-29T12:00:00.000000001",
        "clock": "01:02:03",
        "took": "PT90S",
        "bytes": "AP8=",
        "kind": "a",
        "list": [{"x": 1.5}],
        "map": {"k": 1},
        "none": None,
    }


def test_nan_and_infinity_are_null_and_counted() -> None:
    nan, infinity = float("nan"), float("inf")
    source = read_parquet(_file(pa.table({"a": [1.0, nan, -infinity], "b": [[nan, 2.0], [], None]})))
    assert list(source.texts) == ['{"a":1.0,"b":[null,2.0]}', '{"a":null,"b":[]}', '{"a":null,"b":null}']
    assert source.num_nan_values == 3


def test_rows_are_read_batch_by_batch_in_order() -> None:
    texts = read_parquet(_file(pa.table({"i": list(range(2500))}))).texts
    assert [json.loads(text)["i"] for text in texts] == list(range(2500))


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        list(read_parquet(io.BytesIO(b"PAR1 and then nothing")).texts)
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(SourceError, match="a column name twice"):
        list(read_parquet(_file(twice)).texts)
    doubled = pa.table({"m": pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64()))})
    with pytest.raises(SourceError, match="cannot be read as Parquet after 0 rows"):
        list(read_parquet(_file(doubled)).texts)


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match="its extra `parquet`"):
        list(read_parquet(io.BytesIO(b"PAR1")).texts)


def test_arrow_files_and_streams() -> None:
    table = pa.table({"i": list(range(2500)), "x": [1.5, float("nan")] * 1250})
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        file = io.BytesIO()
        with new(file, table.schema) as writer:
            writer.write_table(table)
        file.seek(0)
        source = read_arrow(file)
        texts = list(source.texts)
        assert texts[:2] == ['{"i":0,"x":1.5}', '{"i":1,"x":null}']
        assert (len(texts), source.num_nan_values) == (2500, 1250)
    with pytest.raises(SourceError, match="cannot be read as Arrow after 0 rows"):
        list(read_arrow(io.BytesIO(b"ARROW1 and then nothing")).texts)


def _repeated(num_characters: int, num_rows: int) -> pa.Table:
    """A long text that is written once and is the value of every row."""
    once = pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), ["x" * num_characters])
    return pa.table({"question": once})


def test_a_text_that_is_written_once_is_not_held_for_a_thousand_rows() -> None:
    """A few kilobytes would else take two gigabytes of the server's memory."""
    table = _repeated(2_000_000, 1000)
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, compression="zstd", store_schema=False)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    for read, file in ((read_parquet, parquet), (read_arrow, arrow)):
        file.seek(0)
        before = pa.total_allocated_bytes()
        texts = iter(read(file).texts)
        assert len(next(texts)) > 2_000_000
        assert pa.total_allocated_bytes() - before < 300e6
        assert sum(1 for _ in texts) == 999


def test_a_parquet_bomb_is_not_unpacked() -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"question": ["x" * 1_000_000] * 60}), file, compression="zstd", use_dictionary=False)
    file.seek(0)
    with pytest.raises(SourceError, match="compressed beyond measure"):
        list(read_parquet(file).texts)

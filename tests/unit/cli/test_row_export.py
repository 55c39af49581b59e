"""Rows as files: what comes out reads back as what went in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from click import ClickException
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from paddock.cli import row_export, row_files
from paddock.datasets import rows
from row_texts import ROWS

TEXTS = [
    b'{"question":"q","n":1,"x":0.30000000000000004,"ok":true,"messages":[{"role":"user","content":"a"}]}',
    b'{"question":"r","n":9007199254740993,"x":1e-7,"ok":null,"messages":[{"role":"tool","name":"t","content":"b"}]}',
]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_json_lines_are_the_rows_as_they_were(tmp_path: Path, name: str) -> None:
    texts = [*TEXTS, b'{"a":\r\n  1.10, "b":1e400}']
    assert row_export.write(tmp_path / name, texts) == []
    found = list(row_files.read_rows(tmp_path / name))
    assert found == [*TEXTS, b'{"a":    1.10, "b":1e400}']
    first = (tmp_path / name).read_bytes()
    row_export.write(tmp_path / name, texts)
    assert (tmp_path / name).read_bytes() == first


def test_parquet_columns_have_the_types_of_their_values(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert row_export.write(path, TEXTS) == []
    schema = parquet.read_schema(path)
    assert {name: str(schema.field(name).type) for name in ("question", "n", "x", "ok")} == {
        "question": "string",
        "n": "int64",
        "x": "double",
        "ok": "bool",
    }
    assert pyarrow.types.is_list(schema.field("messages").type)
    found = [rows.parse(row.decode()) for row in row_files.read_rows(path)]
    assert _without_nulls(found) == _without_nulls([json.loads(text) for text in TEXTS])


@pytest.mark.parametrize(
    "values",
    [
        ["1", '"1"'],
        ["1e400", "1"],
        ["0.10000000000000000001", "1"],
        ["9007199254740993", "0.5"],
        ["99999999999999999999999", "null"],
        ["9" * 5000, "1"],
        ["{}", "null"],
        ['[{"a":{}}]', "null"],
        ['[1,"x"]', "[]"],
        ["[1]", "[true]"],
        ["true", "1"],
        ['{"a":1}', '{"a":"1"}'],
    ],
)
def test_what_no_one_type_holds_is_json_digit_for_digit(tmp_path: Path, values: list[str]) -> None:
    path = tmp_path / "a.parquet"
    texts = [b'{"k":"x","v":%s}' % value.encode() for value in values]
    assert row_export.write(path, texts) == ["v"]
    assert str(parquet.read_schema(path).field("v").type) == "extension<arrow.json>"
    assert list(row_files.read_rows(path)) == texts


@given(st.lists(ROWS, max_size=4))
def test_any_rows_come_back_from_parquet(texts: list[str]) -> None:
    texts = ['{"k":1}', *texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        row_export.write(path, [text.encode() for text in texts])
        found = [rows.parse(row.decode()) for row in row_files.read_rows(path)]
    assert _without_nulls(found) == _without_nulls([rows.parse(text) for text in texts])


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    def broken_off() -> Any:
        yield TEXTS[0]
        raise RuntimeError

    path = tmp_path / "a.jsonl"
    with pytest.raises(RuntimeError):
        row_export.write(path, broken_off())
    assert list(tmp_path.iterdir()) == []


def test_rows_of_nothing_have_no_place_in_parquet(tmp_path: Path) -> None:
    with pytest.raises(ClickException, match="No row has a field"):
        row_export.write(tmp_path / "a.parquet", [b"{}"])
    assert list(tmp_path.iterdir()) == []


def test_a_name_must_say_a_format() -> None:
    with pytest.raises(ClickException, match=r"names no format that rows are written in: .*\.parquet"):
        row_export.check(Path("a.csv"))

"""Files of rows: each row is a JSON object, and passes as it is written where it is written as JSON."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow
import pytest
from pyarrow import parquet

from paddock.cli import row_files


def rows_of(tmp_path: Path, content: bytes) -> list[bytes]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    return list(row_files.read_rows(path))


def test_rows_are_the_lines_as_written(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1.10}\r\n\n  {"b":1e400}  \n{"c":"\xc3\xa9"}'
    assert rows_of(tmp_path, content) == [b'{"a": 1.10}', b'{"b":1e400}', b'{"c":"\xc3\xa9"}']


@pytest.mark.parametrize("line", [b"[1]", b"1", b'{"a":}', b'{"a":1', b'[{"a":1},'])
def test_the_first_wrong_line_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(
        click.ClickException, match=r"rows\.jsonl cannot be read\. Line 3 of the source is not "
    ) as caught:
        rows_of(tmp_path, b'{"a":1}\n\n' + line + b'\n{"a":1}\n')
    assert "Files other than JSON lines are named .json, .csv" in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", b'{"a":1}\n{"a":\n[1]\n\xff\n{"a":2}', ["Line 2", "Line 3", "Line 4"]),
        ("a.json", b'[{"a":1}, 7, {"a":2}, "x"]', ["Row 1", "Row 3"]),
        ("a.csv", b"a\n1\n2,3\n2\n4,4\n", ["Line 3", "Line 5"]),
    ],
)
def test_rows_that_cannot_be_read_are_told_and_passed_over(
    tmp_path: Path, name: str, content: bytes, places: list[str]
) -> None:
    path, told = tmp_path / name, []
    path.write_bytes(content)
    found = list(row_files.read_rows(path, lambda error: told.append(error.detail)))
    assert [int(row[5:-1].strip(b'"')) for row in found] == [1, 2]
    assert [detail.partition(" of the source ")[0] for detail in told] == places


def test_a_checked_file_has_its_rows_counted_and_its_digest_taken_of_them(tmp_path: Path) -> None:
    path, same, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    path.write_bytes(b'{"a":1}\n{"a":2}\n')
    same.write_bytes(b'{"a":1}\r\n\r\n{"a":2}')
    other.write_bytes(b'{"a":1}\n{"a":3}\n')
    checked = row_files.check(path)
    assert checked.num_rows == 2
    assert checked.sha256 == row_files.check(same).sha256 != row_files.check(other).sha256


def test_other_formats_go_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, array, table = tmp_path / "a.csv", tmp_path / "a.JSON", tmp_path / "a.parquet"
    csv.write_text('a,b\n1,"x, y"\n')
    array.write_text('[ {"a": 1.10} , {"a":1e400}]')
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": [0.5, float("nan")]}), table)
    assert list(row_files.read_rows(csv)) == [b'{"a":"1","b":"x, y"}']
    assert list(row_files.read_rows(array)) == [b'{"a": 1.10}', b'{"a":1e400}']
    assert list(row_files.read_rows(table)) == [b'{"a":1,"b":0.5}', b'{"a":2,"b":null}']
    assert "1 of the values of" in capsys.readouterr().err
    assert row_files.check(csv).num_rows == 1


@pytest.mark.parametrize(("name", "content"), [("a.csv", "a,a\n1,2\n"), ("a.json", "[1]"), ("a.parquet", "PAR")])
def test_what_cannot_be_read_names_its_file(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(click.ClickException, match=f"{name} cannot be read"):
        list(row_files.read_rows(path))

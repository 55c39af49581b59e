"""Files of rows: every line is a JSON object, and passes as it is written."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from paddock.cli import jsonl


def rows_of(tmp_path: Path, content: bytes) -> list[bytes]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    return list(jsonl.read_rows(path))


def test_rows_are_the_lines_as_written(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1.10}\r\n\n  {"b":1e400}  \n{"c":"\xc3\xa9"}'
    assert rows_of(tmp_path, content) == [b'{"a": 1.10}', b'{"b":1e400}', b'{"c":"\xc3\xa9"}']


@pytest.mark.parametrize("line", [b"[1]", b"1", b'{"a":}', b'{"a":1', b'[{"a":1},'])
def test_the_first_wrong_line_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(click.ClickException, match=r"^Line 3 of .*rows\.jsonl is not a JSON object") as caught:
        rows_of(tmp_path, b'{"a":1}\n\n' + line + b'\n{"a":1}\n')
    assert "one object a line" in caught.value.message


def test_a_checked_file_has_its_rows_counted_and_its_digest_taken_of_them(tmp_path: Path) -> None:
    path, same, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    path.write_bytes(b'{"a":1}\n{"a":2}\n')
    same.write_bytes(b'{"a":1}\r\n\r\n{"a":2}')
    other.write_bytes(b'{"a":1}\n{"a":3}\n')
    checked = jsonl.check(path)
    assert checked.num_rows == 2
    assert checked.sha256 == jsonl.check(same).sha256 != jsonl.check(other).sha256

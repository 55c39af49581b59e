from __future__ import annotations

import io
import sys
import zipfile
from datetime import date, datetime
from typing import Any

import openpyxl
import pytest

from paddock.datasets.rows import SourceError
from paddock.datasets.spreadsheet import read_xlsx


def _file(rows: list[list[Any]]) -> io.BytesIO:
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.create_sheet("other").append(["not", "read"])
    file = io.BytesIO()
    workbook.save(file)
    file.seek(0)
    return file


def test_values_keep_their_type() -> None:
    rows = [
        ["question", "n", "at", "ok"],
        ["é", 7, datetime(2024, 2, 29, 12, 30), True],
        ["007", 1.5, date(2024, 2, 29), None],
        [None, None, None, None],
        ["short"],
    ]
    assert list(read_xlsx(_file(rows)).texts) == [
        '{"question":"é","n":7,"at":"2024-02-29T12:30:00","ok":true}',
        '{"question":"007","n":1.5,"at":"2024-02-29T00:00:00","ok":null}',
        '{"question":"short","n":null,"at":null,"ok":null}',
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "does not name every column"),
        ([["a", None, "b"], [1, 2, 3]], "does not name every column"),
        ([["a", "a"], [1, 2]], "a column name twice"),
        ([["a"], [1], [1, 2]], "Row 3 of the source's sheet has a value under no column name"),
    ],
)
def test_what_is_wrong_is_said(rows: list[list[Any]], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(read_xlsx(_file(rows)).texts)


def test_what_is_no_spreadsheet_is_refused() -> None:
    with pytest.raises(SourceError, match="cannot be read as a spreadsheet, at row 1"):
        list(read_xlsx(io.BytesIO(b"PK\x03\x04 and then nothing")).texts)


def test_a_bomb_is_not_unpacked() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/worksheets/sheet1.xml", b" " * 50_000_000)
    file.seek(0)
    with pytest.raises(SourceError, match="compressed beyond measure"):
        list(read_xlsx(file).texts)


def test_without_openpyxl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(SourceError, match="its extra `xlsx`"):
        list(read_xlsx(_file([["a"]])).texts)

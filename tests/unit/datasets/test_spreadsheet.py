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


_CELL = '<c r="{}" t="inlineStr"><is><t>x</t></is></c>'


def _sheet(dimension: str, rows: str) -> io.BytesIO:
    """A file whose sheet is written by hand: a column `x`, then these rows."""
    written, file = _file([["x"]]), io.BytesIO()
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f'<dimension ref="{dimension}"/><sheetData><row r="1">{_CELL.format("A1")}</row>{rows}</sheetData></worksheet>'
    )
    with zipfile.ZipFile(written) as parts, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as edited:
        for name in parts.namelist():
            edited.writestr(name, sheet if name == "xl/worksheets/sheet1.xml" else parts.read(name))
    file.seek(0)
    return file


def test_what_a_sheet_says_of_its_size_counts_for_nothing() -> None:
    row = f'<row r="100000">{_CELL.format("A100000")}</row>'
    for dimension in ("A1:XFD1048576", "A1:A1"):
        assert list(read_xlsx(_sheet(dimension, row)).texts) == ['{"x":"x"}']


@pytest.mark.parametrize(
    "rows",
    [
        f'<row r="9999999999">{_CELL.format("A9999999999")}</row>',  # ten thousand million rows that are not there
        "".join(f'<row r="{n}"><c r="ZZZ{n}"/></row>' for n in range(2, 5000)),  # ninety million cells
    ],
    ids=["long", "wide"],
)
def test_a_sheet_that_is_all_but_empty_is_given_up_on(rows: str) -> None:
    with pytest.raises(SourceError, match="all but empty up to its row"):
        list(read_xlsx(_sheet("A1", rows)).texts)

from __future__ import annotations

import io

import pytest

from paddock.datasets import formats
from paddock.datasets.rows import SourceError


def _texts(name: str, content: bytes) -> list[str]:
    return list(formats.read((name,), io.BytesIO(content), {}).texts)


def test_json_lines_keep_their_text() -> None:
    content = b'\xef\xbb\xbf{"a": 1.10}\r\n\n  {"b":\t1e400}  \n{"c":"\xc3\xa9"}'
    assert _texts("jsonl", content) == ['{"a": 1.10}', '{"b":\t1e400}', '{"c":"é"}']


def test_json_lines_are_read_one_at_a_time() -> None:
    source = formats.read_jsonl(io.BytesIO(b'{"a":1}\n{"a":2}\nbroken\n'))
    texts = iter(source.texts)
    assert [next(texts), next(texts)] == ['{"a":1}', '{"a":2}']
    with pytest.raises(SourceError, match="Line 3 of the source is not valid JSON"):
        next(texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":1}\n[1]\n', "Line 2 of the source is not an object"),
        (b'{"a":1}\n\n{"a":NaN}\n', "Line 3 of the source is not valid JSON"),
        (b'{"a":"\xff"}\n', "Line 1 of the source is not valid UTF-8"),
        (b'{"a":"\\ud800"}\n', "lone surrogate"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "Line 1 of the source is nested deeper than 128"),
    ],
)
def test_json_lines_name_the_line_that_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        _texts("jsonl", content)
    assert raised.value.errors[0].pointer == "/source/uri"


@pytest.mark.parametrize(
    "content",
    [
        b'[{"a": 1.10},\n {"b":-0.0}]',
        b'{"rows": [{"a": 1.10}, {"b":-0.0}], "more": 1}',
        b'{\n"data": [{"a": 1.10}, {"b":-0.0}]}',
        b'\xef\xbb\xbf \n[{"a": 1.10}, {"b":-0.0}]',
    ],
)
def test_json_documents_keep_the_text_of_their_rows(content: bytes) -> None:
    assert _texts("json", content) == ['{"a": 1.10}', '{"b":-0.0}']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a":1}, 2]', "Row 1 of the source is not an object"),
        (b'{"a":\n1}', "without `rows` or `data`"),
        (b'[{"a":1}', "is not a valid JSON array"),
        (b'{"rows": 3,\n"a":1}', "is not a valid JSON array"),
        (b"", "is not a valid JSON array"),
    ],
)
def test_json_documents_say_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _texts("json", content)


def test_csv_values_stay_text() -> None:
    content = '\ufeffquestion,answer,n\r\n"a, ""b""\nc",007,\r\n\r\né,NaN,1.10\r\n'.encode()
    assert _texts("csv", content) == [
        '{"question":"a, \\"b\\"\\nc","answer":"007","n":""}',
        '{"question":"é","answer":"NaN","n":"1.10"}',
    ]


def test_csv_takes_fields_as_long_as_a_conversation() -> None:
    assert _texts("csv", b"a\n" + b"x" * 300_000 + b"\n") == ['{"a":"' + "x" * 300_000 + '"}']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no header line"),
        (b"a,a\n1,2\n", "a column name twice"),
        (b'a,b\n"x\ny",2\n1\n', "Line 4 of the source has 1 values for 2 columns"),
        (b'a,b\n"x"y,2\n', "Line 2 of the source is not CSV"),
        (b"a,b\n\xff,2\n", "not valid UTF-8"),
    ],
)
def test_csv_says_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _texts("csv", content)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("jsonl", b'{"rows":[]}', "jsonl"),
        ("x-ndjson", b'{"a":1}', "jsonl"),
        ("json", b'{"rows":[{"a":1}]}', "json"),
        ("json", b'{"a":1}\n{"a":2}\n', "jsonl"),
        ("json", b"[1]", "json"),
        ("JSON", b'{"a":\n1}', "json"),
        ("plain", b'{"a":1}\n', "jsonl"),
        ("", b'  [{"a":1}]', "json"),
        ("csv", b'{"a":1}', "csv"),
        ("octet-stream", b"PAR1....", "parquet"),
        ("csv", b"PAR1....", "parquet"),
        ("parquet", b"nothing", "parquet"),
        ("tsv", b"a\tb", "tsv"),
        ("tab-separated-values", b"", "tsv"),
        ("", b"ARROW1\0\0", "arrow"),
        ("json", b"PK\x03\x04", "xlsx"),
        ("csv", b"ARRO,W\n", "csv"),
        ("txt", b"{}\n{}\n", "jsonl"),
        ("json", b"{}\n{}", "jsonl"),
    ],
)
def test_the_format_is_told_by_name_and_first_bytes(name: str, content: bytes, expected: str) -> None:
    assert formats.format_of((name,), io.BytesIO(content)) == expected


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(
        SourceError, match="'png' is no format that is read here: jsonl, json, parquet, arrow, xlsx, csv, tsv"
    ):
        formats.format_of(("png",), io.BytesIO(b""))
    with pytest.raises(SourceError, match="does not say its format"):
        formats.format_of(("txt", ""), io.BytesIO(b"a,b\n1,2\n"))


def test_the_surest_name_counts() -> None:
    assert formats.format_of(("csv", "jsonl"), io.BytesIO(b"")) == "csv"
    assert formats.format_of(("octet-stream", "tsv"), io.BytesIO(b"")) == "tsv"
    assert formats.format_of(("html", "tsv"), io.BytesIO(b"")) == "tsv"


def test_types_are_declared_for_text_alone() -> None:
    with pytest.raises(SourceError, match="`metadata.column_types` is for CSV and TSV"):
        formats.read(("jsonl",), io.BytesIO(b'{"a":1}'), {"a": "integer"})
    assert list(formats.read(("csv",), io.BytesIO(b"a\n7\n"), {"a": "integer"}).texts) == ['{"a":7}']

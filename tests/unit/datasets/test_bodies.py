from __future__ import annotations

import json
from typing import Any

import pytest

from paddock import wire
from paddock.datasets import bodies
from paddock.errors import InvalidRequestError

ROWS = ['{"question": 1.10,\t"answer":1e400}', '{"question":-0.0}']
BODY = b'{"purpose":"eval/question-answer","dataset_id":"a/b","metadata": {"n": 1.10},"source":{"type":"rows","rows":[%s]}}'


def _body(rows: list[str]) -> bytes:
    return BODY % ", ".join(rows).encode()


def test_rows_and_metadata_keep_their_text() -> None:
    registration = bodies.parse_registration(_body(ROWS))
    assert (registration.dataset_id, registration.purpose, registration.uri) == ("a/b", "eval/question-answer", None)
    assert registration.texts == ROWS
    assert registration.metadata_json == '{"n": 1.10}'


def test_a_source_may_leave_its_type_to_what_is_in_it() -> None:
    for source in ('{"uri":"data:,"}', '{"type":"uri","uri":"data:,"}'):
        body = f'{{"purpose":"eval/question-answer","source":{source},"metadata":null}}'
        registration = bodies.parse_registration(body.encode())
        assert (registration.uri, registration.dataset_id, registration.metadata_json) == ("data:,", None, "{}")
    body = b'{"purpose":"eval/question-answer","source":{"rows":[{}]}}'
    assert bodies.parse_registration(body).texts == ["{}"]


def test_the_digest_is_of_what_was_sent() -> None:
    digest = bodies.parse_registration(_body(ROWS)).digest
    spaced = _body(ROWS).replace(b'":', b'" : ').replace(b"{", b"\n{ ")
    assert bodies.parse_registration(spaced).digest == digest
    assert bodies.parse_registration(_body(ROWS).replace(b"}}", b'},"provider_id":"x"}')).digest == digest
    for old, new in ((b"1.10,", b"1.1,"), (b"eval/question", b"eval/messages"), (b'"n"', b'"m"'), (b"-0.0", b"0.0")):
        assert bodies.parse_registration(_body(ROWS).replace(old, new)).digest != digest


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        (b"", "", "is not a valid JSON object"),
        (b"[]", "", "is not a valid JSON object"),
        (b'{"purpose":NaN}', "", "is not a valid JSON object"),
        (b'{"purpose":"\xff"}', "", "is not valid UTF-8"),
        (b'{"source":{"rows":[]}}', "/purpose", "Field required"),
        (b'{"purpose":"exam","source":{"rows":[]}}', "/purpose", "eval/question-answer"),
        (b'{"purpose":"eval/question-answer"}', "/source", "Field required"),
        (b'{"purpose":"eval/question-answer","source":3}', "/source", "dictionary"),
        (b'{"purpose":"eval/question-answer","source":{"type":"s3"}}', "/source", "'uri', 'rows'"),
        (b'{"purpose":"eval/question-answer","source":{"type":"rows"}}', "/source/rows", "Field required"),
        (b'{"purpose":"eval/question-answer","source":{}}', "/source/uri", "Field required"),
        (b'{"purpose":"eval/question-answer","source":{"uri":3}}', "/source/uri", "string"),
        (b'{"purpose":"eval/question-answer","source":{"uri":"data:\\u0000"}}', "/source/uri", "NUL"),
        (
            b'{"purpose":"eval/question-answer","source":{"rows":{}}}',
            "/source/rows",
            "`rows` is not a valid JSON array",
        ),
        (b'{"purpose":"eval/question-answer","source":{"rows":[{},3]}}', "/source/rows/1", "Row 1 is not an object"),
        (b'{"purpose":"eval/question-answer","source":{"rows":[]},"dataset_id":"../x"}', "/dataset_id", "no segment"),
        (b'{"purpose":"eval/question-answer","source":{"rows":[]},"metadata":[]}', "/metadata", "dictionary"),
        (
            b'{"purpose":"eval/question-answer","source":{"rows":[]},"metadata":{"a/b":'
            + b"[" * 200
            + b"]" * 200
            + b"}}",
            "",
            "nested deeper",
        ),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "nested deeper"),
        (b'{"purpose":"exam","source":{"rows":[]},"purpose":"eval/question-answer"}', "/purpose", "more than once"),
        (b'{"purpose":"eval/question-answer","source":{"rows":[],"rows":[{}]}}', "/source/rows", "more than once"),
        (b'{"purpose":"eval/question-answer","source":{"rows":[]},"x":1e400}', "/x", "too large"),
    ],
)
def test_a_registration_says_what_is_wrong_and_where(body: bytes, pointer: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as raised:
        bodies.parse_registration(body)
    assert [error.pointer for error in raised.value.errors] == [pointer]


def test_fields_that_nothing_reads_are_noted() -> None:
    wire.ignored_fields.set(notes := [])
    body = json.loads(_body(ROWS[1:]))
    body |= {"provider_id": "x", "provider_dataset_id": "y"}
    body["source"]["columns"] = ["question"]
    bodies.parse_registration(json.dumps(body).encode())
    assert sorted(notes) == ["/provider_dataset_id", "/provider_id", "/source/columns"]
    bodies.parse_rows(b'{"rows":[],"dataset_id":"a","params":{}}', "a")
    assert notes == ["/params"]


def test_appended_rows_keep_their_text() -> None:
    body = f'{{"dataset_id":"a/b","rows":[{",".join(ROWS)}]}}'
    assert bodies.parse_rows(body.encode(), "a/b") == ROWS
    assert bodies.parse_rows(b'{"rows":[]}', "a") == []


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        (b"{}", "/rows", "Field required"),
        (b'{"rows":[{"a":1}', "", "is not a valid JSON object"),
        (b'{"rows":"x"}', "/rows", "`rows` is not a valid JSON array"),
        (b'{"rows":[{},null]}', "/rows/1", "Row 1 is not an object"),
        (b'{"rows":[{"a":' + b"[" * 150 + b"]" * 150 + b"}]}", "/rows/0", "Row 0 is nested deeper than 128"),
        (b'{"rows":[],"dataset_id":"b"}', "/dataset_id", "another dataset"),
        (b'{"rows":[],"dataset_id":1e400}', "/dataset_id", "too large"),
        (b'{"rows":[{"a":1}],"x":[{"a":1}] , "\\u0072ows":[]}', "/rows", "more than once"),
        (b'{"rows":[],"x":{"y":1,"y":2}}', "/x/y", "more than once"),
    ],
)
def test_an_append_says_what_is_wrong_and_where(body: bytes, pointer: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as raised:
        bodies.parse_rows(body, "a")
    assert [error.pointer for error in raised.value.errors] == [pointer]


def test_long_strings_cost_no_more_than_their_length() -> None:
    row: dict[str, Any] = {"a": "[" * 200 + '\\" {' * 500_000, "b": [[]] * 200}
    text = json.dumps(row)
    assert bodies.parse_rows(f'{{"rows":[{text}]}}'.encode(), "a") == [text]

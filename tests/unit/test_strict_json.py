from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock import strict_json
from paddock.errors import InvalidRequestError
from row_texts import ROWS, VALUES


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends too early"),
        (b"{", "ends too early"),
        (b'{"a": NaN}', "invalid character"),
        (b'{"a": Infinity}', "invalid character"),
        (b'{"a": -Infinity}', "invalid character"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'{"a": "\\udc00\\ud800"}', "surrogate"),
        (b"[" * 129 + b"]" * 129, "deeper than 128"),
        (b"[" * 10_000, "deeper than 128"),
        (b'{"a":' * 10_000, "deeper than 128"),
        (b'{"a": 01}', "invalid number"),
        (b"[1, 2", "ends too early"),
        (b"{} {}", "trailing"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte order mark"),
        ("{}".encode("utf-16-le"), "expected"),
    ],
)
def test_what_is_no_json(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as raised:
        strict_json.parse(body)
    assert [error.pointer for error in raised.value.errors] == [""]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"a": 1, "a": 2}', ["/a"]),
        ('{"a": 1, "\\u0061": 1}', ["/a"]),
        ('{"b": [{}, {"x/y": 1, "x/y": 1, "z": {}, "z": {}}]}', ["/b/1/x~1y", "/b/1/z"]),
        ('{"n": ' + "1" * 400 + "}", ["/n"]),
        ('{"n": 9223372036854775808, "m": [-9223372036854775809]}', ["/n", "/m/0"]),
        ('{"n": 1e400, "m": -1.5E+999}', ["/n", "/m"]),
        ("[" + "1e999," * 50 + "0]", [f"/{index}" for index in range(20)]),
        ('{"rows": [{"n": 1e400, "a": 1, "a": 1}], "n": 1e400}', ["/n"]),
        ('{"rows": 1, "rows": 2}', ["/rows"]),
    ],
)
def test_what_is_refused_with_its_place(body: str, pointers: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        strict_json.parse(body.encode(), ("rows",))
    assert [error.pointer for error in raised.value.errors] == pointers


def test_numbers_that_are_kept() -> None:
    text = "[9223372036854775807, -9223372036854775808, 1e308, -0.0, 1e-400, 0.1234567890123456789012345]"
    assert strict_json.parse(text.encode()) == json.loads(text)


def test_rows_hold_what_they_like() -> None:
    digits = "9" * 5000
    body = f'{{"rows": [{{"a": {digits}, "b": 1e400, "c": {2**70}, "d": 1, "d": 2}}], "n": 1}}'
    assert strict_json.parse(body.encode(), ("rows",)) == {
        "rows": [{"a": digits, "b": "1e400", "c": 2**70, "d": 2}],
        "n": 1,
    }


def test_values_are_counted_outside_of_rows() -> None:
    most = strict_json.MAX_VALUES
    for body in ({"a": ["x"] * (most - 1)}, {"rows": [{"a": i} for i in range(most)], "b": [1, 2]}):
        assert strict_json.parse(json.dumps(body).encode(), ("rows",)) == body
    for body, pointer in (
        ({"a": ["x"] * most}, "/a"),
        ({"a": {"b~": [[1]] * (most // 2), "c": []}}, "/a/b~0/"),
        ([0] * (most + 1), ""),
    ):
        with pytest.raises(InvalidRequestError, match="at most 20000 values") as raised:
            strict_json.parse(json.dumps(body).encode(), ("rows",))
        assert raised.value.errors[0].pointer.startswith(pointer)
    with pytest.raises(InvalidRequestError, match="many more"):
        strict_json.parse(b"[" + b'"a",' * (5 * most) + b"0]")


def test_brackets_in_strings_are_no_nesting() -> None:
    value = {"a": "[" * 1000, "b": '\\"{{' * 500, "c": ['"[' * 200], "d": [[]] * 200, "e": "\\"}
    assert strict_json.parse(json.dumps(value).encode()) == value


@given(ROWS)
def test_any_row_is_taken_in_its_place(row: str) -> None:
    assert list(strict_json.parse(f'{{"rows":[{row}]}}'.encode(), ("rows",))) == ["rows"]


@given(VALUES | st.text() | st.binary().map(lambda body: body.decode("latin-1")))
def test_whatever_comes_is_taken_or_refused_in_words(text: str) -> None:
    try:
        value = strict_json.parse(text.encode(errors="replace"))
    except InvalidRequestError as error:
        refusal = error
    else:
        assert value == json.loads(text)
        return
    assert refusal.errors

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paddock.datasets import rows
from paddock.datasets.rows import RowError
from row_texts import ROWS, WHITE, joined


@given(st.lists(ROWS, max_size=5), WHITE)
def test_rows_are_cut_out_as_they_stand(texts: list[str], white: str) -> None:
    array = joined("[", texts, "]", white).encode()
    assert rows.texts(rows.open_array(array)) == texts
    members = rows.open_object(b'{"other": 1, "rows":' + array + b"}")
    assert rows.texts(rows.open_array(members["rows"])) == texts


@given(ROWS, WHITE)
def test_a_document_is_one_row_without_the_space_around_it(row: str, white: str) -> None:
    assert rows.text((white + row + white).encode()) == row


@given(ROWS)
def test_parse_gives_what_json_gives(row: str) -> None:
    parsed = rows.parse(row)
    assert isinstance(parsed, dict)
    expected = json.loads(row, parse_int=_exact, parse_float=_exact)
    assert _texts_of_numbers(parsed) == _texts_of_numbers(expected)


def _exact(digits: str) -> Any:
    """A number as `parse` promises it: a value where Python has one, else the digits."""
    if digits.lstrip("-").isdigit():
        return int(digits) if len(digits) <= 4300 else digits
    return digits if abs(float(digits)) == float("inf") else float(digits)


def _texts_of_numbers(value: Any) -> Any:
    # repr tells 1 from 1.0 and 0.0 from -0.0, which == does not.
    return json.loads(json.dumps(value), parse_int=repr, parse_float=repr)


def _is_strict_json_object(document: bytes) -> bool:
    def refuse(_: str) -> None:
        raise ValueError

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        json.dumps(
            pairs, ensure_ascii=False
        ).encode()  # a lone surrogate has no bytes; here also of a name's first value
        return dict(pairs)

    try:
        value = json.loads(
            document.decode(), parse_constant=refuse, parse_int=len, parse_float=len, object_pairs_hook=members
        )
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return isinstance(value, dict) and not document.startswith(b"\xef\xbb\xbf")


ASCII_PIECES = rb'{ } [ ] " : , \ 0 1 - . e + / NaN Infinity null nul \ud800 \ude00 \u00'.split()
PIECES = st.sampled_from([*ASCII_PIECES, b" ", b"\x0b", b"\xa0", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc3\xa9"])


@given(ROWS, st.data())
@example('{"a":"x"}', None)
def test_nothing_but_strict_json_is_taken(row: str, data: Any) -> None:
    document = row.encode()
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(document)))
            end = data.draw(st.integers(start, min(len(document), start + 2)))
            document = document[:start] + data.draw(PIECES) + document[end:]
    try:
        rows.text(document)
        taken = True
    except ValueError:
        taken = False
    assert taken == _is_strict_json_object(document)


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'"\\ud800"',
        b'"\\ude00 x"',
        b'"\\ud83d\\u0041"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"01",
        b"-",
        b"1.",
        b".5",
        b"+1",
        b"0x1",
        b'"\x01"',
        b"tru",
    ],
)
def test_what_json_does_not_know_is_refused_anywhere(value: bytes) -> None:
    for document in (b'{"rows":[{"a":' + value + b"}]}", b'{"rows":[],"other":' + value + b"}"):
        with pytest.raises(ValueError, match="valid"):
            rows.open_object(document)
    with pytest.raises(ValueError, match="is not valid"):
        rows.text(b'{"a":' + value + b"}")


def test_only_objects_are_rows() -> None:
    for item in (b"1", b'"{}"', b"null", b"[{}]"):
        with pytest.raises(RowError, match="is not an object") as raised:
            rows.texts(rows.open_array(b"[{}," + item + b"]"))
        assert raised.value.index == 1


def _nested(levels: int) -> str:
    """A row of so many levels, itself the first."""
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def test_nesting_has_a_limit() -> None:
    for row in (_nested(128), '{"a":"' + "[" * 200 + '"}', '{"a":[' + ",".join(["[]"] * 200) + "]}"):
        assert rows.texts(rows.open_array(f"[{row}]".encode())) == [row]
        assert rows.parse(row) == json.loads(row)
    for levels in (129, 700):
        with pytest.raises(RowError, match="nested deeper than 128"):
            rows.texts(rows.open_array(f"[{_nested(levels)}]".encode()))
    for open_ in (rows.text, rows.open_object):
        with pytest.raises(ValueError, match="nested deeper than 128"):
            open_(_nested(1_000_000).encode())
    with pytest.raises(ValueError, match="nested deeper than 128"):
        rows.open_array(f"[{_nested(1_000_000)}]".encode())


def test_numbers_that_python_lacks_are_given_as_text() -> None:
    digits = "7" * 5000
    assert rows.parse(f'{{"a":1e400,"b":[-1e400],"c":{digits},"d":1.10,"e":{2**70}}}') == {
        "a": "1e400",
        "b": ["-1e400"],
        "c": digits,
        "d": 1.1,
        "e": 2**70,
    }

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from paddock import wire


@pytest.mark.parametrize("value", ["a", "meta/mmlu", "basic::equality", "job:epoch-1", "Größe", "x" * 256, "a..b"])
def test_ids_that_are_taken(value: str) -> None:
    assert wire.check_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * 257, "/a", "a/", "a/../b", "..", "a\nb", "a\x00", "a\x7f", "a\ud800"])
def test_ids_that_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="an id"):
        wire.check_id(value)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
def test_every_json_value_comes_back(value: object) -> None:
    assert wire.from_json(wire.to_json(value)) == value


def test_answers_hold_no_nan() -> None:
    assert wire.to_json({"a": [float("nan"), float("inf"), 1.5]}) == '{"a":[null,null,1.5]}'


class _Inner(wire.Schema):
    x: int = 0


class _Body(wire.RequestBody):
    inner: _Inner
    many: list[_Inner] = []
    table: dict[str, _Inner] = {}


def test_fields_that_nothing_reads_are_named_by_pointer() -> None:
    notes: list[str] = ["from an inner body"]
    token = wire.ignored_fields.set(notes)
    try:
        _Body.model_validate(
            {"inner": {"x": 1, "y": 2}, "many": [{}, {"a/b": 1}], "table": {"k~": {"z": None}}, "extra": True}
        )
    finally:
        wire.ignored_fields.reset(token)
    assert notes == ["/extra", "/inner/y", "/many/1/a~1b", "/table/k~0/z"]


class _Colour(StrEnum):
    RED = "red"


class _Typed(wire.Schema):
    n: int = 0
    x: float = 0.0
    yes: bool = False
    text: str = ""
    colour: wire.Named[_Colour] = _Colour.RED


def test_a_value_is_of_its_fields_type() -> None:
    assert _Typed.model_validate({"x": 1, "colour": "red"}).x == 1.0
    for wrong in (
        {"n": "8"},
        {"n": True},
        {"n": 1.5},
        {"x": "1"},
        {"yes": 1},
        {"yes": "true"},
        {"text": 1},
        {"colour": 1},
    ):
        with pytest.raises(ValidationError):
            _Typed.model_validate(wrong)


def test_the_fields_that_hold_rows_are_told_by_their_type() -> None:
    class Body(wire.RequestBody):
        rows: wire.Rows
        items: list[_Inner]
        metadata: dict[str, Any]

    assert wire.row_fields(Body) == ("rows",)


def test_schemas_say_nothing_of_additional_properties() -> None:
    assert "additionalProperties" not in _Inner.model_json_schema()

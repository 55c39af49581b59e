"""A request's body as a value, if it is strict JSON: UTF-8, finite, not deep, nothing said twice, numbers that are kept.

What a body means to its schema class is the class's business; what stands in a dataset's rows is nobody's here, but for
what all JSON must keep to.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, NoReturn

import msgspec

from paddock import wire
from paddock.errors import FieldError, InvalidRequestError

_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**63 - 1

_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")

# Digits that may not fit into 64 bits, an exponent that may not fit into a float.
_MAYBE_UNFIT = re.compile(rb"\d{19}|[eE]\+?\d{3}")

_MAX_REFUSALS = 20
_TOO_DEEP = f"The body is nested deeper than {wire.MAX_NESTING} levels."

MAX_VALUES = 20_000
"""The most values that a body may hold outside of rows: a schema class looks at each, and says of each what is wrong."""

_MOST_SIGNS_WITH_ROWS = 1_000_000
"""Rows in a typed body are evaluated while the client waits; they are few, and this is far beyond what those hold."""


class _TwiceNamed(dict[str, Any]):
    """An object in which names stand more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]


class _Unfit:
    """A number that is kept neither as an integer of 64 bits nor as a float."""


def parse(body: bytes, row_fields: Collection[str] = ()) -> Any:
    """The value of a body. The fields `row_fields` hold rows: there a number of any size is taken (as its text, where
    Python has no number for it), and of a name that stands twice the last.

    Raises `InvalidRequestError` with the JSON pointers of what is wrong."""
    text = _checked(body)
    num_signs, maybe_unfit = _look(body, most_signs=_MOST_SIGNS_WITH_ROWS if row_fields else 4 * MAX_VALUES)
    if row_fields and num_signs > 4 * MAX_VALUES:
        _check_rest(body, row_fields)
    odd = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal odd
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        odd = True
        return _TwiceNamed(pairs)

    def number(digits: str) -> Any:
        nonlocal odd
        value = fitting(digits)
        odd = odd or value is None
        return _Unfit() if value is None else value

    # Calling back for each number is slow, and hardly ever needed.
    numbers: dict[str, Any] = {"parse_int": number, "parse_float": number} if maybe_unfit else {}
    value = json.loads(text, object_pairs_hook=members, **numbers)
    if isinstance(value, dict | list) and num_signs >= MAX_VALUES:
        _check_count(value, row_fields)
    if not odd:
        return value
    fields = tuple(islice(_refusals(value, "", row_fields), _MAX_REFUSALS))
    if fields:
        raise InvalidRequestError("; ".join(f"{f.pointer or 'body'}: {f.message}" for f in fields), errors=fields)
    return json.loads(text, parse_int=any_number, parse_float=any_number)


def _checked(body: bytes) -> str:
    """The text of a body that is one JSON value. Raises `InvalidRequestError`."""
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _refuse("The body starts with a byte order mark: JSON is sent as UTF-8 without one.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        _refuse(f"The body is not valid UTF-8 (byte {error.start}).")
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        _refuse(f"The body is not valid JSON: {reason(error)}.")
    except RecursionError:
        _refuse(_TOO_DEEP)
    return text


def reason(error: msgspec.DecodeError) -> str:
    """What msgspec finds wrong with a text."""
    said = str(error).removeprefix("JSON is malformed: ")
    # Its words for an escape like \\ud800 that has no partner, and for a document that just ends.
    return "it ends too early, or has a lone surrogate escape" if said == "Input data was truncated" else said


def fitting(digits: str) -> int | float | None:
    """The number that these digits write, or None if it is kept neither in 64 bits nor as a float."""
    if digits.lstrip("-").isdecimal():
        fits = len(digits) < 19 or (len(digits) <= 20 and _MIN_INTEGER <= int(digits) <= _MAX_INTEGER)
        return int(digits) if fits else None
    value = float(digits)
    return value if math.isfinite(value) else None


def any_number(digits: str) -> int | float | str:
    """The number that these digits write, or they themselves where Python has none (1e400, thousands of digits)."""
    try:
        value = float(digits) if re.search(r"[.eE]", digits) else int(digits)
    except ValueError:  # longer than `sys.get_int_max_str_digits()`, a limit that belongs to the process
        return digits
    return digits if isinstance(value, float) and not math.isfinite(value) else value


def _look(document: bytes, most_signs: int) -> tuple[int, bool]:
    """How many commas and opening brackets a JSON document has, no fewer than values but for one; and whether it may hold
    a number that does not fit. What is too deep, or has far too many, is refused before anything is built from it."""
    num_signs, depth, maybe_unfit = 0, 0, False
    for run in _outside_of_strings(document):
        num_signs += run.count(b",") + run.count(b"[") + run.count(b"{")
        if num_signs > most_signs:
            _refuse(f"A body holds at most {MAX_VALUES} values outside of rows, and this one holds many more in all.")
        for bracket in run.translate(None, _NO_BRACKETS):
            depth += 1 if bracket in b"[{" else -1
            if depth > wire.MAX_NESTING:
                _refuse(_TOO_DEEP)
        maybe_unfit = maybe_unfit or _MAYBE_UNFIT.search(run) is not None
    return num_signs, maybe_unfit


def _check_rest(document: bytes, row_fields: Collection[str]) -> None:
    """Raise `InvalidRequestError` if what is many stands outside of the rows."""
    try:
        members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return  # no object: its class says so
    for name, raw in members.items():
        if name not in row_fields:
            _look(bytes(raw), 4 * MAX_VALUES)


def _outside_of_strings(document: bytes) -> Iterator[bytes]:
    if b"\\" in document:
        document = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    end = 0
    while (start := document.find(b'"', end)) >= 0:
        yield document[end:start]
        end = document.find(b'"', start + 1) + 1
    yield document[end:]


def _check_count(value: Any, row_fields: Collection[str]) -> None:
    num_values = 0
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        pointer, container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        num_values += len(container)
        if num_values > MAX_VALUES:
            message = f"A body holds at most {MAX_VALUES} values outside of rows; here they become more."
            raise InvalidRequestError(message, pointer=pointer)
        waiting += [
            (f"{pointer}/{wire.escape_pointer(str(name))}", item)
            for name, item in items
            if isinstance(item, dict | list) and not (pointer == "" and name in row_fields)
        ]


def _refusals(value: Any, pointer: str, row_fields: Collection[str] = ()) -> Iterator[FieldError]:
    if isinstance(value, _Unfit):
        yield FieldError(pointer, "the number is too large: integers have 64 bits, other numbers those of a double")
    elif isinstance(value, dict):
        if isinstance(value, _TwiceNamed):
            for name in value.names:
                yield FieldError(f"{pointer}/{wire.escape_pointer(name)}", "this name stands more than once")
        for name, item in value.items():
            if name not in row_fields:
                yield from _refusals(item, f"{pointer}/{wire.escape_pointer(name)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _refusals(item, f"{pointer}/{index}")


def _refuse(message: str) -> NoReturn:
    raise InvalidRequestError(message, pointer="")

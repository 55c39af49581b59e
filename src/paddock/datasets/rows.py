"""Rows as JSON text: cut out of a document as they were written, checked, and parsed where a job reads them.

A stored row is what the client sent, byte for byte: no number ever becomes a float on the way in or out. The text is
strict JSON all the same: what msgspec takes as syntax, and here what it skips over (invalid UTF-8, any nesting).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from paddock import strict_json, wire
from paddock.errors import InvalidRequestError

MAX_ROW_BYTES = 64 * 1024 * 1024
"""The longest row that is read from a file; rows in a request are bounded by `max_body_bytes`."""

_TOO_DEEP = f"is nested deeper than {wire.MAX_NESTING} levels"

_SHORT_CHARACTERS = 2 * wire.MAX_NESTING
"""A text up to here holds no deeper nesting."""

_array = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder(msgspec.Raw)


class RowError(ValueError):
    """One of several rows cannot be taken. `index` counts them from 0; the message has the row as its subject."""

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index = index


class SourceError(InvalidRequestError):
    """A source cannot be read: the client mends it, or names another, in the registration's `source.uri`."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, pointer="/source/uri")


OnUnreadable = Callable[[SourceError], None]
"""What is done about a row that cannot be read: it raises the error, or keeps it, and the next row is read."""


def refuse(error: SourceError) -> None:
    """Raise the error: a source with a row that cannot be read is not read at all."""
    raise error


@dataclass
class SourceRows:
    """The rows of a source as JSON texts, to be gone through once."""

    texts: Iterable[str]
    num_nan_values: int = 0
    """How many NaN and Infinity of a typed source became null in the rows so far."""


def open_object(document: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of a JSON object as raw slices; of a name that is there twice, the last. The whole document has been
    checked afterwards, but for the nesting of its rows. Raises `ValueError`, its message a predicate."""
    check_utf8(document)
    try:
        return _object.decode(document)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"is not a valid JSON object: {strict_json.reason(error)}") from None


_OPENING = re.compile(rb"\s*\{")
_NAME = re.compile(rb'\s*("(?:[^"\\]|\\.)*+")\s*:\s*', re.DOTALL)
_BEHIND = re.compile(rb"\s*([,}])")


def repeated_name(document: bytes | msgspec.Raw, members: dict[str, msgspec.Raw]) -> str | None:
    """The first name that an object bears twice, or None; `members` are what `open_object` made of it."""
    if not members:
        return None
    view = memoryview(document)
    opening = _OPENING.match(view)
    assert opening is not None
    place = opening.end()
    seen: set[str] = set()
    while True:
        found = _NAME.match(view, place)
        assert found is not None
        name: str = msgspec.json.decode(found.group(1))
        # `open_object` has the last value of each name: another one in this place belongs to an earlier member.
        value = memoryview(members[name])
        place = found.end() + len(value)
        behind = _BEHIND.match(view, place)
        if name in seen or behind is None or view[found.end() : place] != value:
            return name
        if behind.group(1) == b"}":
            return None
        seen.add(name)
        place = behind.end()


def open_array(document: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """The items of a JSON array as raw slices. Raises `ValueError`, its message a predicate."""
    check_utf8(document)
    try:
        return _array.decode(document)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"is not a valid JSON array: {strict_json.reason(error)}") from None


def texts(raws: Sequence[msgspec.Raw]) -> list[str]:
    """The texts of rows that were cut out of a checked document. Raises `RowError` for the first that is no row."""
    cut = [str(raw, "utf-8") for raw in raws]
    for error in _errors(cut):
        raise error
    return cut


def readable_texts(raws: Sequence[msgspec.Raw], on_unreadable: OnUnreadable) -> list[str]:
    """As `texts`, for the rows of a source, but for those that are none."""
    cut = [str(raw, "utf-8") for raw in raws]
    wrong = set()
    for error in _errors(cut):
        on_unreadable(SourceError(f"Row {error.index} of the source {error}."))
        wrong.add(error.index)
    return [text for index, text in enumerate(cut) if index not in wrong] if wrong else cut


def _errors(cut: Sequence[str]) -> Iterator[RowError]:
    for index, text in enumerate(cut):
        if text[0] != "{" or len(text) > _SHORT_CHARACTERS:
            problem = _problem(text)
            if problem is not None:
                yield RowError(index, problem)


def text(document: bytes) -> str:
    """The text of one row that is a document by itself. Raises `ValueError`, its message a predicate."""
    cut = str(_value(document), "utf-8")
    problem = _problem(cut)
    if problem is not None:
        raise ValueError(problem)
    return cut


def value_text(document: str) -> msgspec.Raw:
    """The text of one JSON value of any kind, as it stands in a row. Raises `ValueError`, its message a predicate."""
    raw = _value(document.encode())
    if wire.is_too_deep(bytes(raw)):
        raise ValueError(_TOO_DEEP)
    return raw


def _value(document: bytes) -> msgspec.Raw:
    check_utf8(document)
    try:
        return _any.decode(document)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"is not valid JSON: {strict_json.reason(error)}") from None


def _problem(row: str) -> str | None:
    if row[0] != "{":
        return "is not an object"
    # A short row holds no such nesting. Counting is far faster than walking, and settles it for nearly all others.
    if (
        len(row) > 2 * wire.MAX_NESTING
        and row.count("{") + row.count("[") > wire.MAX_NESTING
        and wire.is_too_deep(row.encode())
    ):
        return _TOO_DEEP
    return None


def check_utf8(document: bytes | msgspec.Raw) -> None:
    """Raise `ValueError` unless `document` is UTF-8, which msgspec does not look at in what it keeps raw."""
    try:
        str(document, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not valid UTF-8 (byte {error.start})") from None


def parse(row: str) -> Any:
    """The value of checked JSON text: for a row, a dict. Of a key that is there twice the last counts. A number that
    Python can hold neither as an int nor as a finite float (1e400, integers of thousands of digits) is its text."""
    try:
        return msgspec.json.decode(row)
    except msgspec.ValidationError:  # a number out of msgspec's range
        return json.loads(row, parse_int=strict_json.any_number, parse_float=strict_json.any_number)

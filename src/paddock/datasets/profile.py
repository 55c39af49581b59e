"""What is known of a dataset's rows: fields with their types and lengths, rows that lack something; and the digests by
which equal rows and equal questions are found.

A profile is added to row by row, so that it can follow a dataset that grows, and is the same as if all rows had been
looked at in one go. It counts exactly, but for the distinct values of a field that has many. Values are those that a job
reads: a number that fits no type of Python's is its text.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from paddock.datasets import purposes, rows

MAX_FIELDS = 500
"""Names that are told apart; values under further ones are counted together."""

MAX_INDICES = 100
"""Rows of a kind that are named; all are counted."""

_MAX_SKETCH = 512
"""Distinct values are counted up to here, and estimated beyond: from the smallest of their digests, which are spread
evenly (Bar-Yossef et al., Counting Distinct Elements in a Data Stream, 2002)."""

_DIGEST_SPACE = 2**63


class Digests(NamedTuple):
    """Digests of rows: (digest, row index), of whole rows and of what they ask."""

    rows: list[tuple[int, int]]
    prompts: list[tuple[int, int]]


class FieldProfile(msgspec.Struct):
    """Values of one top-level field. Lengths count the characters of all strings in a value."""

    types: dict[str, int] = {}
    num_values: int = 0
    min_characters: int | None = None
    max_characters: int = 0
    num_characters: int = 0
    sketch: list[int] = []
    """The smallest digests of distinct values."""

    def add(self, value: Any) -> None:
        name = _type_name(value)
        self.types[name] = self.types.get(name, 0) + 1
        if value is None:
            return
        length = characters(value)
        self.num_values += 1
        self.num_characters += length
        self.max_characters = max(self.max_characters, length)
        self.min_characters = length if self.min_characters is None else min(self.min_characters, length)
        self._note(digest(_canonical(value)))

    def _note(self, number: int) -> None:
        sketch = self.sketch
        if len(sketch) == _MAX_SKETCH and number >= sketch[-1]:
            return
        place = bisect_left(sketch, number)
        if place < len(sketch) and sketch[place] == number:
            return
        sketch.insert(place, number)
        del sketch[_MAX_SKETCH:]

    def shown(self, num_rows: int) -> dict[str, Any]:
        is_exact = len(self.sketch) < _MAX_SKETCH
        distinct = len(self.sketch) if is_exact else round((_MAX_SKETCH - 1) * _DIGEST_SPACE / self.sketch[-1])
        return {
            "types": dict(sorted(self.types.items())),
            "num_null": self.types.get("null", 0),
            "num_absent": num_rows - sum(self.types.values()),
            "num_distinct": distinct,
            "num_distinct_is_exact": is_exact,
            "characters": {
                "min": self.min_characters,
                "mean": self.num_characters / self.num_values if self.num_values else None,
                "max": self.max_characters if self.num_values else None,
            },
        }


class Profile(msgspec.Struct):
    """What is known of the first `as_of_row` rows of a dataset."""

    as_of_row: int = 0
    fields: dict[str, FieldProfile] = {}
    num_other_values: int = 0
    num_incomplete_rows: int = 0
    incomplete_rows: list[tuple[int, str]] = []
    """The first ones: index, and the column that the row lacks."""

    def add(self, purpose: str, texts: Sequence[str]) -> Digests:
        """Take the next rows in. Returns their digests."""
        found = Digests([], [])
        for index, text in enumerate(texts, self.as_of_row):
            row = rows.parse(text)
            for name, value in row.items():
                field = self.fields.get(name)
                if field is None and len(self.fields) < MAX_FIELDS:
                    field = self.fields[name] = FieldProfile({}, sketch=[])
                if field is None:
                    self.num_other_values += 1
                else:
                    field.add(value)
            column = purposes.missing(purpose, row)
            if column is not None:
                self.num_incomplete_rows += 1
                if len(self.incomplete_rows) < MAX_INDICES:
                    self.incomplete_rows.append((index, column))
            found.rows.append((digest(_canonical(row)), index))
            asked = prompt(row)
            if asked:
                found.prompts.append((digest(asked.encode("utf-8", "replace")), index))
        self.as_of_row += len(texts)
        return found

    def shown(self) -> dict[str, Any]:
        return {
            "as_of_row": self.as_of_row,
            "fields": {name: field.shown(self.as_of_row) for name, field in self.fields.items()},
            "num_other_values": self.num_other_values,
            "num_incomplete_rows": self.num_incomplete_rows,
            "incomplete_rows": [{"row": index, "lacks": column} for index, column in self.incomplete_rows],
        }


def prompt(row: Mapping[str, Any]) -> str:
    """What a row asks, so that the same question is the same text however it is spaced and capitalised; empty if nothing."""
    for name in (
        "question",
        "input_query",
        "prompt",
        "messages",
        "chat_completion_input",
        "dialog",
        "completion_input",
    ):
        value = row.get(name)
        if value is not None:
            texts = _user_texts(_parsed(value))
            return " ".join(" ".join(texts).casefold().split())
    return ""


def _parsed(value: Any) -> Any:
    """Messages may be a string of JSON."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return rows.parse(str(rows.value_text(value), "utf-8"))
        except ValueError:
            return value
    return value


def _user_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            if not (isinstance(item, dict) and item.get("role") in ("assistant", "system", "tool")):
                yield from _user_texts(item)
    elif isinstance(value, dict):
        yield from _user_texts(value.get("content", value.get("text")))


def characters(value: Any) -> int:
    """The characters of all strings in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    if isinstance(value, list):
        return sum(map(characters, value))
    return 0


def digest(content: bytes) -> int:
    """63 bits, as a database's integer holds them."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def _canonical(value: Any) -> bytes:
    """The same bytes for equal values, whatever the order of their keys."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except OverflowError:  # an integer over 64 bits
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}
    return names[type(value)]

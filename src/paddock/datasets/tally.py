"""What is counted of rows while they come in: how many, how many bytes, and which lack a column that the purpose needs.

Of a row only those columns are parsed, and many rows at once: a quarter of a microsecond each, where a whole row costs
several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from paddock.datasets import purposes, rows

_TOGETHER = 500
"""Rows that are parsed at once."""


class Tally:
    """Counts of rows for `purpose`, of which the first one has the index `start`."""

    def __init__(self, purpose: str, *, start: int = 0, first_incomplete_row: int | None = None) -> None:
        self.num_rows = 0
        self.num_bytes = 0
        self.num_incomplete_rows = 0
        self.first_incomplete_row = first_incomplete_row
        self._purpose = purpose
        self._start = start

    def add(self, texts: Sequence[str]) -> None:
        """Count these rows' texts."""
        for first in range(0, len(texts), _TOGETHER):
            some = texts[first : first + _TOGETHER]
            try:
                _COMPLETE[self._purpose].decode(f"[{','.join(some)}]")
            except msgspec.ValidationError:
                self._add_one_by_one(some, self._start + self.num_rows + first)
        self.num_bytes += sum([len(text) if text.isascii() else len(text.encode()) for text in texts])
        self.num_rows += len(texts)

    def _add_one_by_one(self, texts: Sequence[str], first: int) -> None:
        for index, text in enumerate(texts, first):
            if purposes.missing(self._purpose, self._columns(text)) is not None:
                self.num_incomplete_rows += 1
                if self.first_incomplete_row is None:
                    self.first_incomplete_row = index

    def _columns(self, text: str) -> Mapping[str, Any]:
        try:
            return msgspec.structs.asdict(_COLUMNS[self._purpose].decode(text))
        except msgspec.ValidationError:  # a number out of msgspec's range
            row: Mapping[str, Any] = rows.parse(text)
            return row


def _columns(purpose: str) -> list[str]:
    needs = purposes.NEEDS[purpose]
    return list(dict.fromkeys([*needs, *(c for sets in needs.values() for columns in sets for c in columns)]))


_Value = str | int | float | bool | list[Any] | dict[str, Any]

_COMPLETE = {
    purpose: msgspec.json.Decoder(
        list[msgspec.defstruct("Row", [(column, _Value) for column in needs], gc=False)]  # type: ignore[misc]  # a type made here
    )
    for purpose, needs in purposes.NEEDS.items()
}
"""Purpose → what reads rows that have all its present-day columns, and no other rows."""

_COLUMNS = {
    purpose: msgspec.json.Decoder(msgspec.defstruct("Row", [(column, Any, None) for column in _columns(purpose)]))
    for purpose in purposes.NEEDS
}
"""Purpose → what reads every column of a row that counts for it."""

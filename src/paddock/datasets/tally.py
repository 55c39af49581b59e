"""What is counted of rows while they come in: how many, how many bytes, and which lack a column that the purpose needs.

Of a row only those columns are parsed; that costs a third of a microsecond where the whole row costs several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from paddock.datasets import purposes, rows


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
        decode, is_complete = _DECODERS[self._purpose].decode, _COMPLETE[self._purpose]
        for index, text in enumerate(texts, self._start + self.num_rows):
            try:
                complete = is_complete(decode(text))
            except msgspec.ValidationError:  # a number out of msgspec's range
                complete = purposes.missing(self._purpose, rows.parse(text)) is None
            if not complete:
                self.num_incomplete_rows += 1
                if self.first_incomplete_row is None:
                    self.first_incomplete_row = index
        self.num_bytes += sum([len(text) if text.isascii() else len(text.encode()) for text in texts])
        self.num_rows += len(texts)


def _columns(purpose: str) -> list[str]:
    needs = purposes.NEEDS[purpose]
    return list(dict.fromkeys([*needs, *(c for sets in needs.values() for columns in sets for c in columns)]))


def _complete(purpose: str) -> Any:
    needed = list(purposes.NEEDS[purpose])
    columns = _columns(purpose)

    def complete(row: Any) -> bool:
        # Nearly every row has the present-day columns.
        for column in needed:
            if getattr(row, column) is None:
                found = {name: getattr(row, name) for name in columns}
                return purposes.missing(purpose, found) is None
        return True

    return complete


_DECODERS = {
    purpose: msgspec.json.Decoder(
        msgspec.defstruct("Row", [(column, Any, None) for column in _columns(purpose)], gc=False)
    )
    for purpose in purposes.NEEDS
}
_COMPLETE = {purpose: _complete(purpose) for purpose in purposes.NEEDS}

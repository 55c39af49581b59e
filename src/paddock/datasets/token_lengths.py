"""How many tokens the values of rows have, by a named model's tokenizer: counted where somebody asks, row by row, so that it
can follow a dataset that grows. Kept in memory only: counting again costs time and loses nothing.

The tokenizers library is imported here alone; torch is not needed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paddock.datasets import rows
from paddock.datasets.profile import MAX_FIELDS
from paddock.datasets.row_store import RowStore
from paddock.errors import InvalidRequestError
from paddock.jobs.job import DatasetVersion

_MAX_KEPT = 32


class FieldTokens:
    """Lengths of the values of one top-level field: the tokens of all strings in a value."""

    def __init__(self) -> None:
        self.num_values = 0
        self.num_tokens = 0
        self.min: int | None = None
        self.max: int | None = None

    def add(self, length: int) -> None:
        self.num_values += 1
        self.num_tokens += length
        self.min = length if self.min is None else min(self.min, length)
        self.max = length if self.max is None else max(self.max, length)

    def shown(self) -> dict[str, Any]:
        mean = self.num_tokens / self.num_values if self.num_values else None
        return {"min": self.min, "mean": mean, "max": self.max}


class TokenLengths:
    """Lengths by field, of the first `as_of_row` rows of a dataset. Special tokens of a chat template do not count."""

    def __init__(self, tokenizer_file: Path) -> None:
        self.as_of_row = 0
        self.fields: dict[str, FieldTokens] = {}
        self._tokenizer = _loaded(tokenizer_file)

    def add(self, texts: Sequence[str]) -> None:
        """Take the next rows in."""
        values = [
            (name, list(_strings(value)))
            for text in texts
            for name, value in rows.parse(text).items()
            if value is not None
        ]
        encoded = iter(
            self._tokenizer.encode_batch_fast(
                [string for _, strings in values for string in strings], add_special_tokens=False
            )
        )
        for name, strings in values:
            length = sum(len(next(encoded)) for _ in strings)
            if name in self.fields or len(self.fields) < MAX_FIELDS:
                self.fields.setdefault(name, FieldTokens()).add(length)
        self.as_of_row += len(texts)

    def shown(self) -> dict[str, Any]:
        return {"as_of_row": self.as_of_row, "fields": {name: field.shown() for name, field in self.fields.items()}}


class _Key(NamedTuple):
    generation: int
    tokenizer_file: Path
    changed_at: int


class TokenLengthsCache:
    """The lengths that were counted last, by dataset and tokenizer."""

    def __init__(self, row_store: RowStore) -> None:
        self._rows = row_store
        self._kept: OrderedDict[_Key, tuple[threading.Lock, TokenLengths]] = OrderedDict()
        self._lock = threading.Lock()

    def follow(self, version: DatasetVersion, tokenizer_file: Path, *, seconds: float) -> dict[str, Any]:
        """The lengths in a dataset, after counting in rows that were not counted yet, for some seconds at most:
        `as_of_row`, and for each of the `fields` the least, mean and most. Raises `InvalidRequestError` for a file that
        is no tokenizer."""
        until = time.monotonic() + seconds
        lock, lengths = self._find(version.generation, tokenizer_file)
        with lock:
            for texts in self._rows.texts(version, lengths.as_of_row):
                lengths.add(texts)
                if time.monotonic() >= until:
                    break
            return lengths.shown()

    def _find(self, generation: int, tokenizer_file: Path) -> tuple[threading.Lock, TokenLengths]:
        key = _Key(generation, tokenizer_file, tokenizer_file.stat().st_mtime_ns)
        with self._lock:
            found = self._kept.pop(key, None) or (threading.Lock(), TokenLengths(tokenizer_file))
            self._kept[key] = found
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return found


def _loaded(tokenizer_file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InvalidRequestError(
            "Tokens are counted with the library tokenizers, which is not installed: install Paddock with its extra "
            "`models`.",
            pointer="tokenizer",
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception:  # whatever the library says of a file that is no tokenizer, it is a bare Exception
        raise InvalidRequestError("The model's tokenizer.json cannot be read.", pointer="tokenizer") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from _strings(item)

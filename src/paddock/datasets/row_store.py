"""The table of rows: JSON text in, ranges of it out, in transactions that stay short however large a dataset is.

Knows generations and indices. Which dataset a generation is, and whether it may go, stands in `store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from paddock.errors import NotFoundError
from paddock.jobs.job import DatasetVersion
from paddock.storage.database import Database
from paddock.storage.tables import dataset_rows, datasets

_WRITE_ROWS = 5000
_WRITE_CHARACTERS = 8 * 1024 * 1024
_READ_ROWS = 1000
_READ_CHARACTERS = 4 * 1024 * 1024
"""A lot ends at so many rows, or as soon as it holds so many characters."""

_PREVIEW_ROWS = 100
_PREVIEW_BYTES = 64 * 1024

_LAZY: dict[str, Any] = {"stream_results": True, "max_row_buffer": 32}
"""PostgreSQL hands rows over as they are asked for, as SQLite does, so that reading can stop at a number of bytes."""

_COLUMNS = "INSERT INTO dataset_rows (generation, row_index, row_json) VALUES"
_INSERT = {"qmark": f"{_COLUMNS} (?, ?, ?)", "pyformat": f"{_COLUMNS} (%s, %s, %s)"}
"""Straight to the driver: SQLAlchemy's own way with parameters takes longer than SQLite does."""

_TOGETHER = 100
_INSERT_TOGETHER = f"{_COLUMNS} " + ", ".join(f"(?1, ?2 + {place}, ?{place + 3})" for place in range(_TOGETHER))
"""SQLite takes many rows in one statement in a third of the time that as many statements take."""


def lots(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    """Rows in lots that one `insert` takes."""
    remaining = iter(texts)
    while lot := list(_bounded(islice(remaining, _WRITE_ROWS))):
        yield lot


def _bounded(texts: Iterator[str]) -> Iterator[str]:
    num_characters = 0
    for text in texts:
        yield text
        num_characters += len(text)
        if num_characters >= _WRITE_CHARACTERS:
            return


def insert(connection: sa.Connection, generation: int, start: int, texts: Sequence[str]) -> None:
    """Store rows under contiguous indices from `start` on."""
    done = 0
    if connection.dialect.name == "sqlite":
        for done in range(_TOGETHER, len(texts) + 1, _TOGETHER):
            first = done - _TOGETHER
            connection.exec_driver_sql(_INSERT_TOGETHER, (generation, start + first, *texts[first:done]))
    rows = [(generation, row_index, text) for row_index, text in enumerate(texts[done:], start + done)]
    if rows:
        connection.exec_driver_sql(_INSERT[connection.dialect.paramstyle], rows)


class RowStore:
    """Rows by generation and index."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def texts(self, version: DatasetVersion, start: int = 0, limit: int | None = None) -> Iterator[Sequence[str]]:
        """The JSON texts of a version's rows from index `start` on, some at a time, `limit` in all.

        No transaction is open between two lots. Raises `NotFoundError` if the dataset is removed meanwhile."""
        end = version.num_rows if limit is None else min(version.num_rows, start + limit)
        while start < end:
            texts = self._lot(version, start, min(end, start + _READ_ROWS))
            yield texts
            start += len(texts)

    def _lot(self, version: DatasetVersion, start: int, end: int) -> Sequence[str]:
        query = (
            sa.select(dataset_rows.c.row_index, dataset_rows.c.row_json)
            .where(
                dataset_rows.c.generation == version.generation,
                dataset_rows.c.row_index >= start,
                dataset_rows.c.row_index < end,
            )
            .order_by(dataset_rows.c.row_index)
        )
        texts: list[str] = []
        num_characters = 0
        with self.database.read() as connection, connection.execute(query, execution_options=_LAZY) as found:
            for row_index, row_json in found:
                # `sweep` takes the first rows first: a row that is out of its place means that they are going.
                if row_index != start + len(texts):
                    break
                texts.append(row_json)
                num_characters += len(row_json)
                if num_characters >= _READ_CHARACTERS:
                    break
        if not texts:
            raise NotFoundError(f"The dataset {version.dataset_id!r} was removed while it was read.")
        return texts

    def preview(self, generation: int) -> Sequence[str]:
        """The first rows' JSON texts: at most 100, and 64 KB of them."""
        query = (
            sa.select(dataset_rows.c.row_json)
            .where(dataset_rows.c.generation == generation, dataset_rows.c.row_index < _PREVIEW_ROWS)
            .order_by(dataset_rows.c.row_index)
        )
        texts: list[str] = []
        num_bytes = 0
        with self.database.read() as connection, connection.execute(query, execution_options=_LAZY) as found:
            for row in found:
                num_bytes += len(row.row_json.encode())
                if num_bytes > _PREVIEW_BYTES:
                    break
                texts.append(row.row_json)
        return texts

    def first_rows(self) -> dict[int, str]:
        """Generation → its first row's JSON text, for datasets that were registered with rows; none over 64 KB."""
        query = (
            sa.select(datasets.c.generation, dataset_rows.c.row_json)
            .join(dataset_rows, dataset_rows.c.generation == datasets.c.generation)
            .where(
                datasets.c.source_type == "rows",
                dataset_rows.c.row_index == 0,
                sa.func.length(dataset_rows.c.row_json) <= _PREVIEW_BYTES,
            )
        )
        with self.database.read() as connection:
            return {row.generation: row.row_json for row in connection.execute(query)}

    def sweep(self, generation: int) -> None:
        """Delete a generation that has no id, its first rows first."""
        last = sa.select(sa.func.max(dataset_rows.c.row_index)).where(dataset_rows.c.generation == generation)
        with self.database.read() as connection:
            last_index = connection.execute(last).scalar() or 0
        for end in range(_WRITE_ROWS, last_index + 1 + _WRITE_ROWS, _WRITE_ROWS):
            with self.database.write() as connection:
                connection.execute(
                    sa.delete(dataset_rows).where(
                        dataset_rows.c.generation == generation, dataset_rows.c.row_index < end
                    )
                )
        with self.database.write() as connection:
            connection.execute(sa.delete(datasets).where(datasets.c.generation == generation))

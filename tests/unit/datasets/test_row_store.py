from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from paddock.datasets import row_store
from paddock.datasets.row_store import RowStore
from paddock.errors import NotFoundError
from paddock.jobs.job import DatasetVersion
from paddock.storage import tables
from paddock.storage.database import Database


class CountingDatabase:
    """A database that knows how many reads are open and how many there were."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.num_open = 0
        self.num_reads = 0

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        self.num_open += 1
        self.num_reads += 1
        with self._database.read() as connection:
            yield connection
        self.num_open -= 1


def _generation(database: Database, texts: list[str]) -> int:
    with database.write() as connection:
        generation: int = connection.execute(
            sa.insert(tables.datasets)
            .values(
                purpose="eval/question-answer",
                source_type="rows",
                metadata_json="{}",
                registration_digest="",
                num_rows=len(texts),
                num_bytes=0,
                num_incomplete_rows=0,
                num_nan_values=0,
                created_at=0.0,
            )
            .returning(tables.datasets.c.generation)
        ).scalar_one()
        start = 0
        for lot in row_store.lots(texts):
            row_store.insert(connection, generation, start, lot)
            start += len(lot)
    return generation


def test_texts_come_in_lots_with_no_transaction_between_them(database: Database) -> None:
    texts = [f'{{"i":{i}}}' for i in range(2500)]
    version = DatasetVersion("d", _generation(database, texts), 2400)
    counting = CountingDatabase(database)
    lots = []
    for lot in RowStore(counting).texts(version, start=100):  # type: ignore[arg-type]
        assert counting.num_open == 0
        lots.append(lot)
    assert [len(lot) for lot in lots] == [1000, 1000, 300]
    assert [text for lot in lots for text in lot] == texts[100:2400]
    assert counting.num_reads == 3


def test_lots_of_large_rows_are_small(database: Database) -> None:
    texts = ['{"a":"' + "x" * 1_500_000 + '"}'] * 7
    version = DatasetVersion("d", _generation(database, texts), 7)
    assert [len(lot) for lot in RowStore(database).texts(version)] == [3, 3, 1]
    assert [len(lot) for lot in row_store.lots(texts)] == [6, 1]


@pytest.mark.parametrize(
    ("start", "limit", "expected"), [(0, 0, 0), (2, 2, 2), (3, 10**30, 2), (5, 1, 0), (10**30, None, 0)]
)
def test_a_range_ends_where_the_version_ends(database: Database, start: int, limit: int | None, expected: int) -> None:
    version = DatasetVersion("d", _generation(database, ['{"a":1}'] * 9), 5)
    assert sum(len(lot) for lot in RowStore(database).texts(version, start, limit)) == expected


def test_a_generation_that_is_swept_meanwhile_is_never_read_with_a_gap(database: Database) -> None:
    generation = _generation(database, [f'{{"i":{i}}}' for i in range(6000)])
    store = RowStore(database)
    lots = store.texts(DatasetVersion("d", generation, 6000))
    next(lots)
    with database.write() as connection:  # what a sweep has done after its first step
        connection.execute(
            sa.delete(tables.dataset_rows).where(
                tables.dataset_rows.c.generation == generation, tables.dataset_rows.c.row_index < 5000
            )
        )
    with pytest.raises(NotFoundError, match="'d' was removed while it was read"):
        next(lots)
    store.sweep(generation)
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.dataset_rows)).scalar() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.datasets)).scalar() == 0


def test_sweeping_leaves_other_generations(database: Database) -> None:
    kept, swept = _generation(database, ['{"a":1}'] * 3), _generation(database, ['{"a":2}'] * 5001)
    empty = _generation(database, [])
    store = RowStore(database)
    store.sweep(swept)
    store.sweep(empty)
    with database.read() as connection:
        assert connection.execute(sa.select(tables.dataset_rows.c.generation)).scalars().all() == [kept] * 3
        assert connection.execute(sa.select(tables.datasets.c.generation)).scalars().all() == [kept]


def test_a_preview_is_small(database: Database) -> None:
    store = RowStore(database)
    assert len(store.preview(_generation(database, ['{"a":1}'] * 200))) == 100
    assert len(store.preview(_generation(database, ['{"a":"' + "é" * 10_000 + '"}'] * 9))) == 3
    assert store.preview(_generation(database, ['{"a":"' + "x" * 70_000 + '"}', "{}"])) == []

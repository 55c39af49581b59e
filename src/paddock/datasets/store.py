"""Datasets in the database: registering, growing, reading, removing.

A dataset only grows, so (generation, number of rows) names a version for good. Rows come in under a generation that has
no id yet, in transactions short enough for running jobs to write between them; the last transaction gives it its id,
and with it every row at once. Removing takes the id away and sweeps the rows in the same small steps.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from paddock.datasets import ingest_store, row_store, rows
from paddock.datasets.append_store import Append, Appends
from paddock.datasets.ingest_store import IngestStore
from paddock.datasets.profile_store import ProfileStore
from paddock.datasets.row_store import RowStore
from paddock.datasets.rows import SourceRows
from paddock.datasets.tally import Tally
from paddock.datasets.token_lengths import TokenLengthsCache
from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.jobs.job import DatasetVersion, NewJob
from paddock.jobs.store import JobStore
from paddock.storage.database import Database
from paddock.storage.tables import benchmarks, datasets, ingests, jobs

_ABANDONED_SECONDS = 24 * 3600
"""Where several servers share a database, a registration that is as old as this is thought dead."""


@dataclass(frozen=True)
class NewDataset:
    """A dataset to be registered, without its rows. `registration_digest` is of what the client sent."""

    dataset_id: str
    purpose: str
    source_type: str
    uri: str | None
    metadata_json: str
    registration_digest: str


@dataclass(frozen=True)
class StoredDataset:
    """A dataset as the database has it. `metadata_json` is the user's own; times are seconds since 1970, UTC."""

    dataset_id: str
    generation: int
    purpose: str
    source_type: str
    uri: str | None
    metadata_json: str
    registration_digest: str
    num_rows: int
    num_bytes: int
    num_incomplete_rows: int
    first_incomplete_row: int | None
    num_nan_values: int
    created_at: float
    state: str
    """`ready`, or of a long source that a job reads: `reading`, `failed`, `cancelled`."""
    num_rows_read: int | None
    """Rows of a long source that are there so far; appended ones don't count."""
    ingest_job_id: str | None
    error: str | None
    """Why reading the source failed."""

    def check_whole(self, pointer: str | None = None) -> None:
        """Raise `InvalidRequestError` if the source was not read to its end, and is not being read either."""
        if self.state not in ("ready", "reading"):
            raise InvalidRequestError(
                f"The source of the dataset {self.dataset_id!r} was not read to its end: "
                f"{self.error or 'its job was cancelled.'} Register it again to go on, or remove it.",
                pointer=pointer,
            )

    @property
    def metadata(self) -> dict[str, Any]:
        """The user's own metadata."""
        metadata: dict[str, Any] = rows.parse(self.metadata_json)
        return metadata


_SELECT = (
    sa.select(
        datasets,
        ingests.c.job_id.label("ingest_job_id"),
        ingests.c.num_rows_read,
        sa.case(
            (ingests.c.finished.is_(None) | ingests.c.finished, "ready"),
            (jobs.c.status.in_(("failed", "cancelled")), jobs.c.status),
            else_="reading",
        ).label("state"),
        sa.case((ingests.c.finished, None), else_=jobs.c.error).label("error"),
    )
    .outerjoin(ingests, ingests.c.generation == datasets.c.generation)
    .outerjoin(jobs, jobs.c.job_id == ingests.c.job_id)
)


class DatasetStore:
    """Datasets by id. Their rows as text are in `rows`; `appends` adds some at the end, for many clients at once."""

    def __init__(self, database: Database, jobs: JobStore) -> None:
        self.database = database
        self.rows = RowStore(database)
        self.appends = Appends(database)
        self.ingests = IngestStore(database)
        self.profiles = ProfileStore(database, self.rows)
        self.token_lengths = TokenLengthsCache(self.rows)
        self._jobs = jobs

    def find(self, dataset_id: str, connection: sa.Connection | None = None) -> StoredDataset | None:
        """The dataset of this id, or None. It cannot be removed before a given transaction ends."""
        query = _SELECT.where(datasets.c.dataset_id == dataset_id)
        if connection is None:
            with self.database.read() as own:
                row = own.execute(query).one_or_none()
        else:
            row = connection.execute(query.with_for_update(read=True, key_share=True, of=datasets)).one_or_none()
        return None if row is None else _dataset(row)

    def get(self, dataset_id: str) -> StoredDataset:
        """The dataset of this id. Raises `NotFoundError`."""
        dataset = self.find(dataset_id)
        if dataset is None:
            raise _not_found(dataset_id)
        return dataset

    def get_for(self, dataset_id: str, pointer: str) -> StoredDataset:
        """`get` for an id in a body: raises `InvalidRequestError` with its JSON pointer."""
        try:
            return self.get(dataset_id)
        except NotFoundError as error:
            raise InvalidRequestError(error.detail, pointer=pointer) from None

    def list(self) -> Sequence[StoredDataset]:
        """All datasets, in order of their ids."""
        query = _SELECT.where(datasets.c.dataset_id.is_not(None)).order_by(datasets.c.dataset_id)
        with self.database.read() as connection:
            return [_dataset(row) for row in connection.execute(query)]

    def version(self, dataset: StoredDataset) -> DatasetVersion:
        """The rows that the dataset has now, to be read later."""
        return DatasetVersion(dataset.dataset_id, dataset.generation, dataset.num_rows)

    def read(self, version: DatasetVersion, start: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a version as dicts, from index `start` on, `limit` of them at most.

        Raises `NotFoundError` if the dataset is removed meanwhile."""
        for texts in self.rows.texts(version, start, limit):
            for text in texts:
                yield rows.parse(text)

    def page(self, dataset: StoredDataset, start: int, limit: int) -> Sequence[str]:
        """The JSON texts of up to `limit` rows from index `start` on."""
        return [text for texts in self.rows.texts(self.version(dataset), start, limit) for text in texts]

    def register(
        self, new: NewDataset, source: AbstractContextManager[SourceRows], *, replace: bool = False
    ) -> StoredDataset:
        """Keep a dataset with all rows of its source, or, if anything fails, nothing of it.

        The same registration again answers the dataset that there is and reads nothing; another one under the same id
        raises `ConflictError`, unless it is to `replace` the old one and no job is reading that."""
        same = self._same(None, new, replace)
        if same is not None:
            return same
        generation = self._stage(new)
        try:
            with source as source_rows:
                tally = self._take_in(generation, new.purpose, source_rows)
            try:
                dataset, unowned = self._publish(new, generation, tally, source_rows.num_nan_values, replace)
            except IntegrityError:  # PostgreSQL: this id was published in between; now it can be seen
                dataset, unowned = self._publish(new, generation, tally, source_rows.num_nan_values, replace)
        except Exception:
            self._sweep(generation)
            raise
        if unowned is not None:
            self._sweep(unowned)
        return dataset

    def _same(self, connection: sa.Connection | None, new: NewDataset, replace: bool) -> StoredDataset | None:
        existing = self.find(new.dataset_id, connection)
        if existing is None or existing.registration_digest == new.registration_digest:
            return existing
        if not replace:
            raise ConflictError(
                f"There is another dataset under the id {new.dataset_id!r}. Remove it first, or choose a new id."
            )
        return None

    def register_later(self, new: NewDataset, request: dict[str, Any], *, replace: bool = False) -> StoredDataset:
        """Keep a dataset that has no rows yet; a job with this `request`, and the generation, reads them in.

        The same registration again answers the dataset that there is; one whose job has failed or was cancelled gets
        another, which goes on behind the last row. Raises `ConflictError` as `register` does."""
        try:
            dataset, unowned = self._begin(new, request, replace)
        except IntegrityError:  # PostgreSQL: this id was published in between; now it can be seen
            dataset, unowned = self._begin(new, request, replace)
        if unowned is not None:
            self._sweep(unowned)
        return dataset

    def _begin(self, new: NewDataset, request: dict[str, Any], replace: bool) -> tuple[StoredDataset, int | None]:
        replaced = None
        with self.database.write() as connection:
            same = self._same(connection, new, replace)
            if same is not None and same.state in ("ready", "reading"):
                return same, None
            if same is None:
                replaced = self._retire(connection, new.dataset_id) if replace else None
                values = _values(new) | {"dataset_id": new.dataset_id}
                statement = sa.insert(datasets).values(values).returning(datasets.c.generation)
                generation = connection.execute(statement).scalar_one()
            else:
                generation = same.generation
            job = NewJob(str(uuid.uuid4()), "ingest", request | {"generation": generation})
            ingest_store.begin(connection, generation, self._jobs.submit(job, connection).job_id)
            dataset = self.find(new.dataset_id, connection)
        assert dataset is not None
        return dataset, replaced

    def _stage(self, new: NewDataset) -> int:
        with self.database.write() as connection:
            statement = sa.insert(datasets).values(_values(new)).returning(datasets.c.generation)
            generation: int = connection.execute(statement).scalar_one()
            return generation

    def _take_in(self, generation: int, purpose: str, source_rows: SourceRows) -> Tally:
        tally = Tally(purpose)
        for texts in row_store.lots(source_rows.texts):
            start = tally.num_rows
            tally.add(texts)
            with self.database.write() as connection:
                row_store.insert(connection, generation, start, texts)
        return tally

    def _publish(
        self, new: NewDataset, generation: int, tally: Tally, num_nan_values: int, replace: bool
    ) -> tuple[StoredDataset, int | None]:
        """Give staged rows their id. Returns the dataset, and the generation that is nobody's now, if there is one."""
        with self.database.write() as connection:
            same = self._same(connection, new, replace)
            if same is not None:
                return same, generation
            replaced = self._retire(connection, new.dataset_id) if replace else None
            connection.execute(
                sa.update(datasets)
                .where(datasets.c.generation == generation)
                .values(
                    dataset_id=new.dataset_id,
                    num_rows=tally.num_rows,
                    num_bytes=tally.num_bytes,
                    num_incomplete_rows=tally.num_incomplete_rows,
                    first_incomplete_row=tally.first_incomplete_row,
                    num_nan_values=num_nan_values,
                )
            )
            published = self.find(new.dataset_id, connection)
        assert published is not None
        return published, replaced

    def append(
        self, dataset_id: str, texts: Sequence[str], *, idempotency_key: str | None = None, body: bytes = b""
    ) -> int:
        """Add rows, given as JSON texts, at the end: all of them or none. They are durable when this returns. Returns
        how many were added.

        The same `idempotency_key` again adds nothing; with another `body` it raises `ConflictError`. An id that there
        is not raises `NotFoundError`."""
        return self.appends.submit(Append(dataset_id, texts, idempotency_key, body)).result()

    def remove(self, dataset_id: str) -> None:
        """Forget a dataset and its rows. Raises `NotFoundError`, or `ConflictError` if an unfinished job reads it or a
        benchmark names it."""
        with self.database.write() as connection:
            generation = self._retire(connection, dataset_id)
            if generation is None:
                raise _not_found(dataset_id)
            named = sa.select(benchmarks.c.benchmark_id).where(benchmarks.c.dataset_id == dataset_id).limit(1)
            benchmark_id = connection.execute(named).scalar_one_or_none()
            if benchmark_id is not None:
                raise ConflictError(
                    f"The benchmark {benchmark_id!r} names the dataset {dataset_id!r}: remove the benchmark first."
                )
        self._sweep(generation)

    def _retire(self, connection: sa.Connection, dataset_id: str) -> int | None:
        """Take a dataset's id away, unless a job needs it. Returns the generation that is nobody's then, if any."""
        generation: int | None = connection.execute(
            sa.update(datasets)
            .where(datasets.c.dataset_id == dataset_id)
            .values(dataset_id=None)
            .returning(datasets.c.generation)
        ).scalar_one_or_none()
        if generation is not None:
            ingest_store.cancel(connection, self.database.now(), generation)
        # Asked after the update, which has waited for a job that was being submitted on this dataset.
        readers = self._jobs.readers(dataset_id, connection)
        if generation is not None and readers:
            raise ConflictError(
                f"The job {readers[0]} reads the dataset {dataset_id!r}: cancel it, or wait until it has ended."
            )
        return generation

    def _sweep(self, generation: int) -> None:
        self.profiles.sweep(generation)
        self.rows.sweep(generation)

    def sweep_abandoned(self) -> None:
        """Delete the rows of registrations and removals that a crash cut short. For a server's start."""
        # A SQLite file has one server: at its start none of them can still be under way.
        before = time.time() - (0 if self.database.is_sqlite else _ABANDONED_SECONDS)
        query = sa.select(datasets.c.generation).where(datasets.c.dataset_id.is_(None), datasets.c.created_at < before)
        with self.database.read() as connection:
            generations = connection.execute(query).scalars().all()
        for generation in generations:
            self._sweep(generation)


def _values(new: NewDataset) -> dict[str, Any]:
    return {
        "purpose": new.purpose,
        "source_type": new.source_type,
        "uri": new.uri,
        "metadata_json": new.metadata_json,
        "registration_digest": new.registration_digest,
        "num_rows": 0,
        "num_bytes": 0,
        "num_incomplete_rows": 0,
        "num_nan_values": 0,
        "created_at": time.time(),
    }


def _not_found(dataset_id: str) -> NotFoundError:
    return NotFoundError(f"There is no dataset {dataset_id!r}.")


def _dataset(row: sa.Row[Any]) -> StoredDataset:
    return StoredDataset(**row._mapping)

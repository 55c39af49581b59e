"""The table of benchmarks: each names a dataset, and the functions that score the answers to its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.errors import ConflictError, NotFoundError
from paddock.jobs.store import JobStore
from paddock.storage.database import Database
from paddock.storage.tables import benchmarks


@dataclass(frozen=True)
class StoredBenchmark:
    """A benchmark as a user registered it."""

    benchmark_id: str
    provider_id: str
    provider_benchmark_id: str | None
    dataset_id: str
    scoring_functions: tuple[str, ...]
    metadata: dict[str, Any]


class BenchmarkStore:
    """Benchmarks by id."""

    def __init__(self, database: Database, jobs: JobStore) -> None:
        self.database = database
        self._jobs = jobs

    def find(self, benchmark_id: str, connection: sa.Connection | None = None) -> StoredBenchmark | None:
        """The benchmark of this id, or None. It cannot be removed before a given transaction ends."""
        query = sa.select(benchmarks).where(benchmarks.c.benchmark_id == benchmark_id)
        if connection is None:
            with self.database.read() as own:
                row = own.execute(query).one_or_none()
        else:
            row = connection.execute(query.with_for_update(read=True)).one_or_none()
        return None if row is None else _benchmark(row)

    def get(self, benchmark_id: str, connection: sa.Connection | None = None) -> StoredBenchmark:
        """The benchmark of this id. Raises `NotFoundError`."""
        benchmark = self.find(benchmark_id, connection)
        if benchmark is None:
            raise NotFoundError(f"There is no benchmark {benchmark_id!r}.")
        return benchmark

    def list(self) -> Sequence[StoredBenchmark]:
        """All benchmarks, in order of their ids."""
        with self.database.read() as connection:
            query = sa.select(benchmarks).order_by(benchmarks.c.benchmark_id)
            return [_benchmark(row) for row in connection.execute(query)]

    def register(self, connection: sa.Connection, new: StoredBenchmark, *, replace: bool = False) -> StoredBenchmark:
        """Add a benchmark, whose parts the caller has checked in this transaction. The same thing twice is fine; another
        one under the same id raises `ConflictError`, unless it is to `replace` the old one and no job is running that."""
        existing = self.find(new.benchmark_id, connection)
        if existing == new:
            return existing
        if existing is not None:
            if not replace:
                raise ConflictError(
                    f"There is another benchmark under the id {new.benchmark_id!r}. "
                    "Remove it first, or choose a new id."
                )
            self._delete(connection, new.benchmark_id)
        connection.execute(
            sa.insert(benchmarks).values(
                benchmark_id=new.benchmark_id,
                provider_id=new.provider_id,
                provider_benchmark_id=new.provider_benchmark_id,
                dataset_id=new.dataset_id,
                scoring_functions_json=wire.to_json(list(new.scoring_functions)),
                metadata_json=wire.to_json(new.metadata),
                created_at=time.time(),
            )
        )
        return new

    def remove(self, benchmark_id: str) -> None:
        """Forget a benchmark; its jobs and their results stay. Raises `NotFoundError`, or `ConflictError` while an
        unfinished job runs it."""
        with self.database.write() as connection:
            self.get(benchmark_id, connection)
            self._delete(connection, benchmark_id)

    def _delete(self, connection: sa.Connection, benchmark_id: str) -> None:
        connection.execute(sa.delete(benchmarks).where(benchmarks.c.benchmark_id == benchmark_id))
        # Asked after the deletion, which has waited for a job that was being submitted on this benchmark.
        job_ids = self._jobs.of_benchmark(benchmark_id, connection)
        if job_ids:
            raise ConflictError(
                f"The job {job_ids[0]} runs the benchmark {benchmark_id!r}: cancel it, or wait until it has ended."
            )


def _benchmark(row: sa.Row[Any]) -> StoredBenchmark:
    return StoredBenchmark(
        benchmark_id=row.benchmark_id,
        provider_id=row.provider_id,
        provider_benchmark_id=row.provider_benchmark_id,
        dataset_id=row.dataset_id,
        scoring_functions=tuple(wire.from_json(row.scoring_functions_json)),
        metadata=wire.from_json(row.metadata_json),
    )

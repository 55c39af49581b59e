"""What evaluation keeps in the database, as `wiring` builds it: benchmarks, scoring functions, results; and the
transactions in which a request is taken on once, however often it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from paddock.datasets.store import DatasetStore
from paddock.errors import ConflictError
from paddock.evaluation.benchmark_store import BenchmarkStore, StoredBenchmark
from paddock.evaluation.function_store import FunctionStore
from paddock.evaluation.generation_store import GenerationCache
from paddock.evaluation.result_store import ResultStore
from paddock.jobs.job import NewJob
from paddock.jobs.store import JobStore
from paddock.storage import idempotency
from paddock.storage.database import Database


@dataclass(frozen=True)
class Once:
    """A request that carries an `Idempotency-Key`: the key, the route and resource that it counts for, and the body."""

    scope: str
    key: str
    body: bytes = field(compare=False)


class EvaluationStore:
    """The stores of this slice, on one database."""

    def __init__(self, database: Database, jobs: JobStore, generation_cache: GenerationCache | None = None) -> None:
        self.database = database
        self.jobs = jobs
        self.benchmarks = BenchmarkStore(database, jobs)
        self.functions = FunctionStore(database)
        self.results = ResultStore(database)
        self.generation_cache = generation_cache or GenerationCache(database, 0)
        self._under_way: set[Once] = set()

    @contextmanager
    def alone(self, once: Once) -> Iterator[None]:
        """Hold a request that takes long for this server's only one of its key. Raises `ConflictError` if it is not."""
        if once in self._under_way:
            raise ConflictError("A request with this Idempotency-Key is being answered. Wait for its answer.")
        self._under_way.add(once)
        try:
            yield
        finally:
            self._under_way.discard(once)

    def recall(self, once: Once) -> str | None:
        """What was answered to this request before, or None. Raises `ConflictError` if its key came with another body."""
        with self.database.write() as connection:
            return idempotency.recall(connection, scope=once.scope, key=once.key, body=once.body)

    def remember(self, once: Once, answer: str) -> str:
        """Keep the answer to a request. Returns it, or the one that the same request got in the meantime."""
        with self.database.write() as connection:
            earlier = idempotency.recall(connection, scope=once.scope, key=once.key, body=once.body)
            if earlier is None:
                idempotency.remember(connection, scope=once.scope, key=once.key, body=once.body, answer=answer)
            return answer if earlier is None else earlier

    def submit(self, new: NewJob, benchmark: StoredBenchmark, datasets: DatasetStore, once: Once | None) -> str:
        """Schedule a job that was checked against a benchmark and its dataset. Returns its id, or that of the job which
        the same request got in the meantime. Raises `ConflictError` if what it was checked against is gone."""
        with self.database.write() as connection:
            if once is not None:
                earlier = idempotency.recall(connection, scope=once.scope, key=once.key, body=once.body)
                if earlier is not None:
                    return earlier
                idempotency.remember(connection, scope=once.scope, key=once.key, body=once.body, answer=new.job_id)
            found = [datasets.find(version.dataset_id, connection) for version in new.reads]
            are_there = all(
                dataset is not None and dataset.generation == version.generation
                for dataset, version in zip(found, new.reads, strict=True)
            )
            if self.benchmarks.find(benchmark.benchmark_id, connection) != benchmark or not are_there:
                raise ConflictError(
                    f"The benchmark {benchmark.benchmark_id!r} was changed meanwhile. Send the request again."
                )
            evaluated = found[0]
            assert evaluated is not None
            # As it is now: a dataset that was being read when the job was checked may be whole by now.
            pinned = replace(new, reads=(datasets.version(evaluated), *new.reads[1:]))
            return self.jobs.submit(pinned, connection).job_id

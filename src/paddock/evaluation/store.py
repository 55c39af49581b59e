"""What evaluation keeps in the database, as `wiring` builds it: benchmarks, scoring functions, results."""

from __future__ import annotations

from paddock.evaluation.benchmarks import BenchmarkStore
from paddock.evaluation.functions import FunctionStore
from paddock.evaluation.results import ResultStore
from paddock.jobs.store import JobStore
from paddock.storage.database import Database


class EvaluationStore:
    """The three stores of this slice, on one database."""

    def __init__(self, database: Database, jobs: JobStore) -> None:
        self.database = database
        self.jobs = jobs
        self.benchmarks = BenchmarkStore(database, jobs)
        self.functions = FunctionStore(database)
        self.results = ResultStore(database)

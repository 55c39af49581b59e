"""What a search needs to know of evaluation, where its objective is a benchmark's score.

The slices do not know each other: `wiring` hands over what does it (`evaluation/objective.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paddock.jobs.job import DatasetVersion, NewJob


class BenchmarkScores(Protocol):
    """The scores of models on benchmarks."""

    def check(
        self,
        model_id: str,
        *,
        benchmark_id: str,
        scoring_function: str,
        aggregation: str,
        num_examples: int | None,
        pointer: str,
    ) -> DatasetVersion:
        """The rows that models like `model_id` would be scored on. Raises `InvalidRequestError` below `pointer`."""

    def job(
        self,
        job_id: str,
        model_id: str,
        reads: Sequence[DatasetVersion],
        *,
        parent_id: str,
        benchmark_id: str,
        scoring_function: str,
        num_examples: int | None,
    ) -> NewJob:
        """The job that scores a model on the benchmark's rows in the version among `reads`."""

    def value(self, job_id: str, scoring_function: str, aggregation: str) -> float | None:
        """The score that a completed job came to, None where no row could be scored."""

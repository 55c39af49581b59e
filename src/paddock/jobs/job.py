"""What a job is: as it is submitted, and as the database has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paddock.jobs.states import JobStatus


@dataclass(frozen=True)
class DatasetVersion:
    """The rows that a job reads: those below `num_rows` of one generation of a dataset."""

    dataset_id: str
    generation: int
    num_rows: int


@dataclass(frozen=True)
class NewJob:
    """A job to be submitted. `request` is what the client sent, as parsed; `kind` names its runner; `parent_id` the job
    that starts it and waits for it."""

    job_id: str
    kind: str
    request: dict[str, Any]
    benchmark_id: str | None = None
    reads: tuple[DatasetVersion, ...] = ()
    priority: int = 0
    parent_id: str | None = None


@dataclass(frozen=True)
class Job:
    """A job as the database has it. Times are seconds since 1970, UTC. `put_off` is why a scheduled one waits until
    `not_before`."""

    job_id: str
    kind: str
    benchmark_id: str | None
    request: dict[str, Any]
    status: JobStatus
    attempt: int
    num_lost: int
    num_retries: int
    priority: int
    not_before: float | None
    progress_done: int
    progress_total: int | None
    progress_unit: str | None
    resources: dict[str, Any] | None
    put_off: str | None
    error: str | None
    retryable: bool | None
    log_tail: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    number: int
    parent_id: str | None = None
    reads: tuple[DatasetVersion, ...] = field(default=())

    @property
    def progress(self) -> dict[str, Any] | None:
        """`{done, total, unit}`, or None as long as the job has said nothing."""
        if self.progress_unit is None:
            return None
        return {"done": self.progress_done, "total": self.progress_total, "unit": self.progress_unit}

    def reads_dataset(self, dataset_id: str) -> DatasetVersion:
        """The pinned version of a dataset that this job was submitted with."""
        return next(version for version in self.reads if version.dataset_id == dataset_id)

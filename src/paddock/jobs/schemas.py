"""What the routes of all jobs answer. The contract's own `Job` belongs to evaluation; this is an extension."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from paddock.jobs.states import JobStatus
from paddock.jobs.store import Job
from paddock.wire import Schema


class JobRecord(Schema):
    """A job of any kind."""

    job_id: str
    kind: str
    parent_id: str | None
    benchmark_id: str | None
    status: JobStatus
    attempt: int
    progress: dict[str, Any] | None
    resources: dict[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    number: int


class ListJobsResponse(Schema):
    """A page of jobs, the newest first. `next_before` asks for the next page, null after the last."""

    data: list[JobRecord]
    next_before: int | None


class JobSeriesResponse(Schema):
    """Events or metrics of a job, in order."""

    data: list[dict[str, Any]]


def utc(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time with its zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def record(job: Job) -> JobRecord:
    """A job as it is shown."""
    created_at = utc(job.created_at)
    assert created_at is not None
    return JobRecord(
        job_id=job.job_id,
        kind=job.kind,
        parent_id=job.parent_id,
        benchmark_id=job.benchmark_id,
        status=job.status,
        attempt=job.attempt,
        progress=job.progress,
        resources=job.resources,
        error=job.error,
        created_at=created_at,
        started_at=utc(job.started_at),
        ended_at=utc(job.ended_at),
        number=job.number,
    )

"""What the routes of all jobs answer. The contract's own `Job` belongs to evaluation; this is an extension."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from paddock.jobs.job import Job
from paddock.jobs.states import JobStatus
from paddock.wire import RequestBody, Schema


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
    priority: int = Field(description="Higher ones run first; among equals the order of submission.")
    not_before: datetime | None = Field(description="When a job that was put off may go on.")
    put_off: str | None = Field(description="Why a job was put off that waits until then: what it needs is away.")
    error: str | None = Field(description="Why the job failed, in words.")
    retryable: bool | None = Field(description="Of a failed job: whether the same request may go better another time.")
    log_tail: str | None = Field(description="Of a failed job: the last lines that its process printed.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    number: int


class ListJobsResponse(Schema):
    """A page of jobs, the newest first. `next_before` asks for the next page, null after the last."""

    data: list[JobRecord]
    next_before: int | None


class PrioritizeRequest(RequestBody):
    """Where a scheduled job waits."""

    priority: int = Field(ge=-1000, le=1000)


class PruneRequest(RequestBody):
    """Which ended jobs to clear away: those that ended so long ago."""

    logs_older_than_days: float | None = Field(default=None, ge=0, description="Delete the logs of these.")
    jobs_older_than_days: float | None = Field(
        default=None, ge=0, description="Delete these with all that they found out; not those that made checkpoints."
    )


class PruneResponse(Schema):
    """How many were cleared away."""

    num_logs: int
    num_jobs: int


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
        priority=job.priority,
        not_before=utc(job.not_before),
        put_off=job.put_off,
        error=job.error,
        retryable=job.retryable,
        log_tail=job.log_tail,
        created_at=created_at,
        started_at=utc(job.started_at),
        ended_at=utc(job.ended_at),
        number=job.number,
    )

"""All jobs, whatever their kind: `/v1alpha/jobs`, an extension. Submitting is the business of each slice."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.responses import PlainTextResponse

from paddock import routing
from paddock.errors import InvalidRequestError
from paddock.jobs.schemas import JobRecord, JobSeriesResponse, ListJobsResponse, record
from paddock.jobs.states import JobStatus
from paddock.jobs.store import JobStore
from paddock.routing import PathId, StoredNumber
from paddock.storage.data_dir import DataDir

router = routing.router("Jobs")


def _jobs(request: Request) -> JobStore:
    jobs: JobStore = request.app.state.jobs
    return jobs


Jobs = Annotated[JobStore, Depends(_jobs)]


@router.get("/v1alpha/jobs", openapi_extra=routing.EXTENSION)
def list_jobs(
    jobs: Jobs,
    kind: str | None = None,
    status: JobStatus | None = None,
    before: StoredNumber | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ListJobsResponse:
    """List jobs of every kind, the newest first."""
    page = jobs.list(kinds=None if kind is None else [kind], status=status, before=before, limit=limit)
    return ListJobsResponse(
        data=[record(job) for job in page], next_before=page[-1].number if len(page) == limit else None
    )


@router.get("/v1alpha/jobs/{job_id:path}/events", openapi_extra=routing.EXTENSION)
def list_job_events(jobs: Jobs, job_id: PathId, after: StoredNumber = 0) -> JobSeriesResponse:
    """What happened to a job, in order; `after` is the `event_id` of the last one known."""
    jobs.get(job_id)
    return JobSeriesResponse(data=list(jobs.events(job_id, after=after)))


@router.get("/v1alpha/jobs/{job_id:path}/metrics", openapi_extra=routing.EXTENSION)
def list_job_metrics(jobs: Jobs, job_id: PathId, after: StoredNumber = -1) -> JobSeriesResponse:
    """A job's series by step: loss, learning rate and the like; `after` is the last step known."""
    jobs.get(job_id)
    return JobSeriesResponse(data=list(jobs.metrics(job_id, after=after)))


@router.get("/v1alpha/jobs/{job_id:path}/logs", openapi_extra=routing.EXTENSION)
def get_job_log(
    request: Request,
    jobs: Jobs,
    job_id: PathId,
    attempt: int | None = None,
    offset: Annotated[StoredNumber, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1 << 20)] = 1 << 16,
) -> PlainTextResponse:
    """What the job's process printed in its last attempt, or in a named one: `limit` bytes from `offset` on."""
    job = jobs.get(job_id)
    number = job.attempt if attempt is None else attempt
    if not 0 <= number <= job.attempt:
        raise InvalidRequestError(f"The job has had {job.attempt} attempts.", pointer="attempt")
    data_dir: DataDir = request.app.state.data_dir
    log_file = data_dir.log_file(job_id, number)
    if not log_file.exists():
        return PlainTextResponse("")
    with log_file.open("rb") as log:
        log.seek(offset)
        return PlainTextResponse(log.read(limit))


@router.get("/v1alpha/jobs/{job_id:path}", openapi_extra=routing.EXTENSION)
def get_job(jobs: Jobs, job_id: PathId) -> JobRecord:
    """Get a job of any kind."""
    return record(jobs.get(job_id))


@router.delete("/v1alpha/jobs/{job_id:path}", openapi_extra=routing.EXTENSION)
def cancel_job(request: Request, jobs: Jobs, job_id: PathId) -> JobRecord:
    """Cancel a job of any kind; cancelling a cancelled one is fine."""
    job = jobs.cancel(job_id)
    request.app.state.wake_worker()
    return record(job)

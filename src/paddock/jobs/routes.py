"""All jobs, whatever their kind: `/v1alpha/jobs`, an extension. Submitting is the business of each slice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse

from paddock import routing, wire
from paddock.errors import InvalidRequestError
from paddock.jobs import retention
from paddock.jobs.schemas import (
    JobRecord,
    JobSeriesResponse,
    ListJobsResponse,
    PrioritizeRequest,
    PruneRequest,
    PruneResponse,
    record,
)
from paddock.jobs.states import JobStatus
from paddock.jobs.store import JobStore
from paddock.routing import PathId, StoredNumber
from paddock.storage.data_dir import DataDir

router = routing.router("Jobs")

_POLL_SECONDS = 0.2
_KEEP_ALIVE_SECONDS = 15.0


Jobs = Annotated[JobStore, routing.held("jobs")]


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


@router.post("/v1alpha/jobs/prune", openapi_extra=routing.EXTENSION)
def prune_jobs(request: Request, jobs: Jobs, body: PruneRequest) -> PruneResponse:
    """Clear away what ended jobs left behind."""
    num_logs, num_jobs = retention.prune(
        jobs,
        request.app.state.data_dir,
        logs_older_than_days=body.logs_older_than_days,
        jobs_older_than_days=body.jobs_older_than_days,
    )
    return PruneResponse(num_logs=num_logs, num_jobs=num_jobs)


@router.post("/v1alpha/jobs/{job_id:path}/priority", openapi_extra=routing.EXTENSION)
def prioritize_job(jobs: Jobs, job_id: PathId, body: PrioritizeRequest) -> JobRecord:
    """Let a scheduled job run before those of lower priority, or after those of higher."""
    return record(jobs.prioritize(job_id, body.priority))


@router.get(
    "/v1alpha/jobs/{job_id:path}/events",
    openapi_extra=routing.EXTENSION,
    response_model=JobSeriesResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def list_job_events(request: Request, jobs: Jobs, job_id: PathId, after: StoredNumber = 0) -> Any:
    """What happened to a job, in order; `after` is the `event_id` of the last one known.

    Asked for `text/event-stream`, it goes on until the job has ended, and from `Last-Event-ID` on."""
    jobs.get(job_id)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return JobSeriesResponse(data=list(jobs.events(job_id, after=after)))
    last = request.headers.get("last-event-id", "")
    if last.isdecimal():
        after = max(after, int(last))
    return StreamingResponse(_event_stream(request, jobs, job_id, after), media_type="text/event-stream")


async def _event_stream(request: Request, jobs: JobStore, job_id: str, after: int) -> AsyncIterator[str]:
    quiet_since = time.monotonic()
    while not request.app.state.is_ending():
        # The record first: the events that are read after a final record are all there will be.
        job = await run_in_threadpool(jobs.find, job_id)
        for event in await run_in_threadpool(partial(jobs.events, job_id, after=after)):
            after = event["event_id"]
            yield f"id: {after}\nevent: {event['event']}\ndata: {wire.to_json(event)}\n\n"
            quiet_since = time.monotonic()
        if job is None or job.status.is_final:
            return
        if time.monotonic() - quiet_since > _KEEP_ALIVE_SECONDS:
            # A proxy, or a client that is gone, would not notice otherwise.
            yield ": nothing new\n\n"
            quiet_since = time.monotonic()
        await asyncio.sleep(_POLL_SECONDS)


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

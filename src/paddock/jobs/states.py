"""The state machine of jobs. Each transition is one `UPDATE … WHERE status = …`; nothing else changes a status.

    scheduled → in_progress → completed | failed | cancelled
    scheduled → cancelled
    in_progress → scheduled          its process was lost, or the server ends and hands it back

A running job's transitions also name its attempt: a process that was thought dead and wakes up changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from paddock.errors import LostLeaseError
from paddock.storage.tables import ingests, job_datasets, job_events, jobs


class JobStatus(StrEnum):
    """Status of a job execution."""

    COMPLETED = "completed"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    SCHEDULED = "scheduled"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


COORDINATORS = ("search",)
"""Kinds of jobs that only start other jobs and wait for them: they take none of the places of `max_running_jobs`, which
the jobs that they wait for need."""

Now = sa.ColumnElement[float]
"""The database's clock, from `Database.now()`."""


def claim(
    connection: sa.Connection,
    now: Now,
    *,
    worker_id: str,
    lease_seconds: float,
    skip_locked: bool,
    coordinators: bool = False,
) -> str | None:
    """Start the oldest scheduled job, of those that are `coordinators` or of the others: give it a new attempt and a lease.
    Returns its id, or None if none waits."""
    oldest = (
        sa.select(jobs.c.number)
        .where(jobs.c.status == "scheduled", sa.not_(_waits_for_an_ingest()))
        .order_by(jobs.c.number)
        .limit(1)
    )
    oldest = oldest.where(jobs.c.kind.in_(COORDINATORS) if coordinators else jobs.c.kind.not_in(COORDINATORS))
    if skip_locked:
        oldest = oldest.with_for_update(skip_locked=True)
    claimed = connection.execute(
        sa.update(jobs)
        .where(jobs.c.number == oldest.scalar_subquery(), jobs.c.status == "scheduled")
        .values(
            status="in_progress",
            attempt=jobs.c.attempt + 1,
            worker_id=worker_id,
            lease_expires_at=now + lease_seconds,
            started_at=sa.func.coalesce(jobs.c.started_at, now),
        )
        .returning(jobs.c.job_id)
    ).scalar_one_or_none()
    if claimed is not None:
        _record(connection, now, claimed, "started")
    return claimed


def _waits_for_an_ingest() -> sa.Exists:
    """Whether a job reads a dataset that another job is still filling from its source."""
    filling = jobs.alias()
    return (
        sa.exists()
        .where(job_datasets.c.job_id == jobs.c.job_id)
        .where(ingests.c.generation == job_datasets.c.generation, sa.not_(ingests.c.finished))
        .where(filling.c.job_id == ingests.c.job_id, filling.c.status.in_(("scheduled", "in_progress")))
    )


def hold(connection: sa.Connection, job_id: str, attempt: int) -> None:
    """Fence: raise `LostLeaseError` unless this attempt is the running one, and keep it so until the commit."""
    held = connection.execute(
        # An update, not a select: it takes the row's lock, so that a cancel waits for this transaction.
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress")
        .values(attempt=attempt)
    )
    if held.rowcount != 1:
        raise LostLeaseError(f"Attempt {attempt} of job {job_id} is over.")


def renew(connection: sa.Connection, now: Now, *, worker_id: str, lease_seconds: float) -> None:
    """Heartbeat: the worker lives, so its running jobs keep their leases."""
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.worker_id == worker_id, jobs.c.status == "in_progress")
        .values(lease_expires_at=now + lease_seconds)
    )


def complete(connection: sa.Connection, now: Now, job_id: str, attempt: int) -> None:
    """The work is done and its results are stored. Raises `LostLeaseError` if the attempt is over."""
    _end(connection, now, job_id, attempt, status="completed", event="completed", detail=None)


def fail(connection: sa.Connection, now: Now, job_id: str, attempt: int, error: str) -> None:
    """The work cannot be done; `error` says why in words. Raises `LostLeaseError` if the attempt is over."""
    _end(connection, now, job_id, attempt, status="failed", event="failed", detail=error)


def _end(
    connection: sa.Connection, now: Now, job_id: str, attempt: int, *, status: str, event: str, detail: str | None
) -> None:
    ended = connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress")
        .values(status=status, worker_id=None, lease_expires_at=None, ended_at=now, error=detail)
    )
    if ended.rowcount != 1:
        raise LostLeaseError(f"Attempt {attempt} of job {job_id} is over.")
    _record(connection, now, job_id, event, detail)
    _cancel_children(connection, now, job_id)


def cancel(connection: sa.Connection, now: Now, job_id: str) -> bool:
    """End a scheduled or running job as cancelled, with the jobs that it started. Returns whether it was one; processes
    are the worker's to stop."""
    cancelled = connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.status.in_(("scheduled", "in_progress")))
        .values(status="cancelled", worker_id=None, lease_expires_at=None, ended_at=now)
    )
    if cancelled.rowcount == 1:
        _record(connection, now, job_id, "cancelled")
        _cancel_children(connection, now, job_id)
    return cancelled.rowcount == 1


def _cancel_children(connection: sa.Connection, now: Now, job_id: str) -> None:
    """Nobody waits any more for the jobs that this one started."""
    children = sa.select(jobs.c.job_id).where(
        jobs.c.parent_id == job_id, jobs.c.status.in_(("scheduled", "in_progress"))
    )
    for child in connection.execute(children).scalars().all():
        cancel(connection, now, child)


def hand_back(connection: sa.Connection, now: Now, job_id: str, attempt: int) -> None:
    """The server ends: the job waits for the next start. Nothing was wrong with it, so no loss is counted."""
    _reschedule(connection, now, job_id, attempt, num_lost=0, event="handed back", detail=None)


def lose(connection: sa.Connection, now: Now, job_id: str, attempt: int, *, max_lost: int, reason: str) -> None:
    """The job's process is gone without a word: schedule it again, or fail it when that happened too often."""
    num_lost = connection.execute(
        sa.select(jobs.c.num_lost).where(
            jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress"
        )
    ).scalar_one_or_none()
    if num_lost is None:
        return
    if num_lost + 1 >= max_lost:
        connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(num_lost=num_lost + 1))
        fail(
            connection,
            now,
            job_id,
            attempt,
            f"The job's process was lost {num_lost + 1} times; the last time: {reason}",
        )
        return
    _reschedule(connection, now, job_id, attempt, num_lost=1, event="lost", detail=reason)


def _reschedule(
    connection: sa.Connection, now: Now, job_id: str, attempt: int, *, num_lost: int, event: str, detail: str | None
) -> None:
    rescheduled = connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress")
        .values(status="scheduled", worker_id=None, lease_expires_at=None, num_lost=jobs.c.num_lost + num_lost)
    )
    if rescheduled.rowcount == 1:
        _record(connection, now, job_id, event, detail)


def record_submission(connection: sa.Connection, now: Now, job_id: str) -> None:
    """Note in the job's history that it was taken on."""
    _record(connection, now, job_id, "submitted")


def _record(connection: sa.Connection, now: Now, job_id: str, event: str, detail: str | None = None) -> None:
    attempt = sa.select(jobs.c.attempt).where(jobs.c.job_id == job_id).scalar_subquery()
    connection.execute(sa.insert(job_events).values(job_id=job_id, attempt=attempt, at=now, event=event, detail=detail))

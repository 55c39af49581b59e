"""The state machine of jobs. Each transition is one `UPDATE … WHERE status = …`; nothing else changes a status.

    scheduled → in_progress → completed | failed | cancelled
    scheduled → cancelled
    in_progress → scheduled          its process was lost, what it needs is away, or the server ends and hands it back

A running job's transitions also name its attempt: a process that was thought dead and wakes up changes nothing. What
has ended stays as it is; constraints and triggers in `storage.tables` hold that, whoever writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from enum import StrEnum
from typing import Any

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
    full_kinds: Collection[str] = (),
    coordinators: bool = False,
) -> str | None:
    """Start the scheduled job whose turn it is, of those that are `coordinators` or of the others: give it a new attempt
    and a lease. Returns its id, or None if none waits.

    The highest priority first, then the order of submission; kinds that are `full` wait."""
    first = (
        sa.select(jobs.c.number)
        .where(
            jobs.c.status == "scheduled",
            sa.not_(_waits_for_an_ingest()),
            sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
            jobs.c.kind.not_in(full_kinds),
            jobs.c.kind.in_(COORDINATORS) if coordinators else jobs.c.kind.not_in(COORDINATORS),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.number)
        .limit(1)
    )
    if skip_locked:
        first = first.with_for_update(skip_locked=True)
    claimed = connection.execute(
        sa.update(jobs)
        .where(jobs.c.number == first.scalar_subquery(), jobs.c.status == "scheduled")
        .values(
            status="in_progress",
            attempt=jobs.c.attempt + 1,
            not_before=None,
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


def hold(connection: sa.Connection, job_id: str, attempt: int, *, or_cancelled: bool = False) -> None:
    """Fence: raise `LostLeaseError` unless this attempt is the running one, and keep it so until the commit.

    `or_cancelled`: also the attempt that ran when the job was cancelled; no other will follow it."""
    status = jobs.c.status.in_(("in_progress", "cancelled") if or_cancelled else ("in_progress",))
    held = connection.execute(
        # An update, not a select: it takes the row's lock, so that a cancel waits for this transaction.
        sa.update(jobs).where(jobs.c.job_id == job_id, jobs.c.attempt == attempt, status).values(attempt=attempt)
    )
    if held.rowcount != 1:
        raise LostLeaseError(f"Attempt {attempt} of job {job_id} is over.")


def renew(
    connection: sa.Connection, now: Now, *, worker_id: str, lease_seconds: float, job_ids: Collection[str]
) -> None:
    """Heartbeat: the worker lives and has processes for these jobs, so they keep their leases."""
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.worker_id == worker_id, jobs.c.status == "in_progress", jobs.c.job_id.in_(job_ids))
        .values(lease_expires_at=now + lease_seconds)
    )


def complete(connection: sa.Connection, now: Now, job_id: str, attempt: int) -> None:
    """The work is done and its results are stored. Raises `LostLeaseError` if the attempt is over."""
    _leave(connection, now, job_id, attempt, "completed", status="completed", ended_at=now)


def fail(
    connection: sa.Connection,
    now: Now,
    job_id: str,
    attempt: int,
    error: str,
    *,
    retryable: bool = False,
    log_tail: str | None = None,
) -> None:
    """The work cannot be done; `error` says why in words, `retryable` whether the same again may go better. Raises
    `LostLeaseError` if the attempt is over."""
    values = {"status": "failed", "ended_at": now, "error": error, "retryable": retryable, "log_tail": log_tail}
    _leave(connection, now, job_id, attempt, "failed", error, **values)


def retry(
    connection: sa.Connection,
    now: Now,
    job_id: str,
    attempt: int,
    reason: str,
    *,
    delay_seconds: float,
    num_retries: int,
) -> None:
    """Something that the job needs is away: it waits for `delay_seconds`, then goes on. `num_retries`: how often this was
    done since it last got something done. Raises `LostLeaseError`."""
    _leave(
        connection,
        now,
        job_id,
        attempt,
        "put off",
        f"{reason} Again in {delay_seconds:.0f} s." if delay_seconds >= 1 else reason,
        status="scheduled",
        not_before=now + delay_seconds,
        num_retries=num_retries,
    )


def hand_back(connection: sa.Connection, now: Now, job_id: str, attempt: int) -> None:
    """The server ends: the job waits for the next start. Nothing was wrong with it, so no loss is counted. Changes
    nothing if the attempt is over."""
    with contextlib.suppress(LostLeaseError):
        _leave(connection, now, job_id, attempt, "handed back", status="scheduled")


def lose(
    connection: sa.Connection,
    now: Now,
    job_id: str,
    attempt: int,
    *,
    max_lost: int,
    reason: str,
    log_tail: str | None = None,
    finder_id: str | None = None,
) -> None:
    """The job's process is gone without a word: schedule it again, or fail it when that happened too often. Changes
    nothing if the attempt is over, or if it is another worker's than the `finder_id` and that one renewed its lease."""
    is_last = jobs.c.num_lost + 1 >= max_lost
    error = f"The job's process was lost {max_lost} times; the last time: {reason}"
    lost = connection.execute(
        sa.update(jobs)
        .where(
            *_running(job_id, attempt),
            sa.true() if finder_id is None else sa.or_(jobs.c.lease_expires_at < now, jobs.c.worker_id == finder_id),
        )
        .values(
            status=sa.case((is_last, "failed"), else_="scheduled"),
            worker_id=None,
            lease_expires_at=None,
            num_lost=jobs.c.num_lost + 1,
            ended_at=sa.case((is_last, now)),
            error=sa.case((is_last, error)),
            retryable=sa.case((is_last, sa.false())),
            log_tail=sa.case((is_last, log_tail)),
        )
        .returning(jobs.c.status)
    ).scalar_one_or_none()
    if lost is not None:
        detail = f"{reason} Last lines of its log:\n{log_tail}" if log_tail else reason
        _record(connection, now, job_id, *(("lost", detail) if lost == "scheduled" else ("failed", error)))
        if lost == "failed":
            _cancel_children(connection, now, job_id)


def cancel(connection: sa.Connection, now: Now, job_id: str) -> bool:
    """End a scheduled or running job as cancelled, with the jobs that it started. Returns whether it was one; processes
    are the worker's to stop."""
    cancelled = connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.status.in_(("scheduled", "in_progress")))
        .values(status="cancelled", worker_id=None, lease_expires_at=None, not_before=None, ended_at=now)
    )
    if cancelled.rowcount == 1:
        _record(connection, now, job_id, "cancelled")
        _cancel_children(connection, now, job_id)
    return cancelled.rowcount == 1


def _running(job_id: str, attempt: int) -> tuple[sa.ColumnElement[bool], ...]:
    return jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress"


def _cancel_children(connection: sa.Connection, now: Now, job_id: str) -> None:
    """Nobody waits any more for the jobs that this one started."""
    children = sa.select(jobs.c.job_id).where(
        jobs.c.parent_id == job_id, jobs.c.status.in_(("scheduled", "in_progress"))
    )
    for child in connection.execute(children).scalars().all():
        cancel(connection, now, child)


def _leave(
    connection: sa.Connection, now: Now, job_id: str, attempt: int, event: str, detail: str | None = None, **values: Any
) -> None:
    """The running attempt is over, in one way or another. Raises `LostLeaseError` if it was not the running one."""
    left = connection.execute(
        sa.update(jobs).where(*_running(job_id, attempt)).values(worker_id=None, lease_expires_at=None, **values)
    )
    if left.rowcount != 1:
        raise LostLeaseError(f"Attempt {attempt} of job {job_id} is over.")
    _record(connection, now, job_id, event, detail)
    if "ended_at" in values:
        _cancel_children(connection, now, job_id)


def record_submission(connection: sa.Connection, now: Now, job_id: str) -> None:
    """Note in the job's history that it was taken on."""
    _record(connection, now, job_id, "submitted")


def _record(connection: sa.Connection, now: Now, job_id: str, event: str, detail: str | None = None) -> None:
    attempt = sa.select(jobs.c.attempt).where(jobs.c.job_id == job_id).scalar_subquery()
    connection.execute(sa.insert(job_events).values(job_id=job_id, attempt=attempt, at=now, event=event, detail=detail))

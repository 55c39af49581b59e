"""Jobs in the database: submitting, finding, listing, forgetting.

Changes of status stand in `states`, what a running job says of itself in `report_store`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.errors import ConflictError, NotFoundError, TooManyRequestsError
from paddock.jobs import states
from paddock.jobs.job import DatasetVersion, Job, NewJob
from paddock.jobs.states import JobStatus
from paddock.storage.database import Database
from paddock.storage.tables import checkpoints, job_datasets, job_events, job_metrics, jobs

_SUBMISSION_LOCK = 7231946023
"""PostgreSQL's lock under which jobs are counted and added, one submission at a time."""

_FULL_RETRY_SECONDS = 10

_WHY_PUT_OFF = (
    sa.select(job_events.c.detail)
    .where(job_events.c.job_id == jobs.c.job_id, job_events.c.event == "put off")
    .order_by(job_events.c.event_id.desc())
    .limit(1)
    .scalar_subquery()
)
_JOBS = sa.select(jobs, sa.case((jobs.c.not_before.is_not(None), _WHY_PUT_OFF)).label("put_off"))
"""Jobs, and of those that wait because they were put off, why."""


class JobStore:
    """All jobs of one database."""

    def __init__(self, database: Database, *, max_scheduled: int | None = None) -> None:
        """At most `max_scheduled` jobs wait; None is no bound."""
        self.database = database
        self._max_scheduled = max_scheduled

    def submit(self, new: NewJob, connection: sa.Connection | None = None) -> Job:
        """Take a job on; it is durable when this returns (or when the given transaction commits).

        The same request under the same id answers the job that there is; another one raises `ConflictError`, and one
        more than may wait `TooManyRequestsError`."""
        if connection is None:
            with self.database.write() as own:
                return self.submit(new, own)
        existing = self.find(new.job_id, connection)
        if existing is not None:
            same = (existing.kind, existing.benchmark_id, existing.request) == (
                new.kind,
                new.benchmark_id,
                wire.from_json(wire.to_json(new.request)),
            )
            if not same:
                raise ConflictError(f"There is a job {new.job_id} with another request. Choose a new job id.")
            return existing
        if new.parent_id is None:  # what a job asks for itself was taken on with it
            self._check_room(connection)
        now = self.database.now()
        connection.execute(
            sa.insert(jobs).values(
                job_id=new.job_id,
                kind=new.kind,
                benchmark_id=new.benchmark_id,
                parent_id=new.parent_id,
                request_json=wire.to_json(new.request),
                status="scheduled",
                attempt=0,
                num_lost=0,
                priority=new.priority,
                progress_done=0,
                created_at=now,
            )
        )
        for version in new.reads:
            connection.execute(
                sa.insert(job_datasets).values(
                    job_id=new.job_id,
                    dataset_id=version.dataset_id,
                    generation=version.generation,
                    num_rows=version.num_rows,
                )
            )
        states.record_submission(connection, now, new.job_id)
        job = self.find(new.job_id, connection)
        assert job is not None
        return job

    def _check_room(self, connection: sa.Connection) -> None:
        if self._max_scheduled is None:
            return
        if not self.database.is_sqlite:  # which has one writer at a time anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SUBMISSION_LOCK)))
        waiting = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.status == "scheduled")
        if connection.execute(waiting).scalar_one() >= self._max_scheduled:
            raise TooManyRequestsError(
                f"{self._max_scheduled} jobs are waiting already (`max_scheduled_jobs`): submit this one later.",
                limit="max_scheduled_jobs",
                retry_after_seconds=_FULL_RETRY_SECONDS,
            )

    def find(self, job_id: str, connection: sa.Connection | None = None) -> Job | None:
        """The job of this id, or None."""
        if connection is None:
            with self.database.read() as own:
                return self.find(job_id, own)
        row = connection.execute(_JOBS.where(jobs.c.job_id == job_id)).one_or_none()
        if row is None:
            return None
        reads = connection.execute(sa.select(job_datasets).where(job_datasets.c.job_id == job_id)).all()
        return _job(row, reads)

    def has_prefix(self, prefix: str) -> bool:
        """Whether the id of any job begins so."""
        query = sa.select(sa.exists().where(jobs.c.job_id.startswith(prefix, autoescape=True)))
        with self.database.read() as connection:
            return bool(connection.execute(query).scalar())

    def get(self, job_id: str, *, kinds: Sequence[str] | None = None, benchmark_id: str | None = None) -> Job:
        """The job of this id, kind and benchmark. Raises `NotFoundError`."""
        job = self.find(job_id)
        if (
            job is None
            or (kinds is not None and job.kind not in kinds)
            or (benchmark_id is not None and job.benchmark_id != benchmark_id)
        ):
            raise NotFoundError(f"There is no such job: {job_id}")
        return job

    def list(
        self,
        *,
        kinds: Sequence[str] | None = None,
        status: JobStatus | None = None,
        before: int | None = None,
        limit: int | None = None,
        with_children: bool = True,
    ) -> list[Job]:
        """Jobs, the newest first, those that other jobs started among them unless said otherwise; `before` is the `number`
        of the last one of the page before. Without dataset pins."""
        query = _JOBS.order_by(jobs.c.number.desc())
        if kinds is not None:
            query = query.where(jobs.c.kind.in_(kinds))
        if status is not None:
            query = query.where(jobs.c.status == status.value)
        if before is not None:
            query = query.where(jobs.c.number < before)
        if not with_children:
            query = query.where(jobs.c.parent_id.is_(None))
        if limit is not None:
            query = query.limit(limit)
        with self.database.read() as connection:
            return [_job(row, ()) for row in connection.execute(query)]

    def cancel(self, job_id: str) -> Job:
        """Cancel a scheduled or running job; again is fine. Raises `ConflictError` if it completed or failed."""
        with self.database.write() as connection:
            states.cancel(connection, self.database.now(), job_id)
            job = self.find(job_id, connection)
        if job is None:
            raise NotFoundError(f"There is no such job: {job_id}")
        if job.status is not JobStatus.CANCELLED:
            raise ConflictError(f"The job {job_id} is {job.status.value}: there is nothing left to cancel.")
        return job

    def prioritize(self, job_id: str, priority: int) -> Job:
        """Let a job wait in another place: higher ones run first. Raises `NotFoundError`, or `ConflictError` if it does
        not wait."""
        with self.database.write() as connection:
            changed = connection.execute(
                sa.update(jobs).where(jobs.c.job_id == job_id, jobs.c.status == "scheduled").values(priority=priority)
            )
            job = self.find(job_id, connection)
        if job is None:
            raise NotFoundError(f"There is no such job: {job_id}")
        if changed.rowcount != 1:
            raise ConflictError(f"The job {job_id} is {job.status.value}: it does not wait for its turn.")
        return job

    def claim(
        self, *, worker_id: str, lease_seconds: float, full_kinds: Collection[str] = (), coordinators: bool = False
    ) -> Job | None:
        """Start the scheduled job whose turn it is for a worker, or None if none waits; kinds that are full do.
        `coordinators` are claimed apart."""
        waits = jobs.c.status == "scheduled", jobs.c.kind.not_in(full_kinds)
        with self.database.read() as connection:
            # A look costs no lock; most of the time nothing waits.
            if connection.execute(sa.select(jobs.c.number).where(*waits).limit(1)).first() is None:
                return None
        with self.database.write() as connection:
            job_id = states.claim(
                connection,
                self.database.now(),
                worker_id=worker_id,
                lease_seconds=lease_seconds,
                skip_locked=not self.database.is_sqlite,
                full_kinds=full_kinds,
                coordinators=coordinators,
            )
            return None if job_id is None else self.find(job_id, connection)

    def lost(self, *, worker_id: str, held: Collection[tuple[str, int]], alone: bool) -> Sequence[tuple[str, int]]:
        """Running jobs (id, attempt) that nobody runs, as this worker sees it, which has the processes `held`: those of
        its own beside them, those whose lease ran out, and, where it is `alone` on the database, all others."""
        query = sa.select(jobs.c.job_id, jobs.c.attempt).where(jobs.c.status == "in_progress")
        if not alone:
            lapsed = jobs.c.lease_expires_at < self.database.now()
            query = query.where(sa.or_(jobs.c.worker_id == worker_id, lapsed))
        with self.database.read() as connection:
            found = [(row.job_id, row.attempt) for row in connection.execute(query)]
        return [attempt for attempt in found if attempt not in held]

    def ended(self, *, older_than_days: float, limit: int, after: int = 0) -> Sequence[tuple[int, str]]:
        """Jobs (number, id) that ended so long ago, from the first number above `after` on."""
        query = (
            sa.select(jobs.c.number, jobs.c.job_id)
            .where(jobs.c.number > after, jobs.c.ended_at <= self.database.now() - older_than_days * 86400)
            .order_by(jobs.c.number)
            .limit(limit)
        )
        with self.database.read() as connection:
            return [(row.number, row.job_id) for row in connection.execute(query)]

    @contextmanager
    def forgetting(self, job_id: str) -> Iterator[bool]:
        """Delete an ended job and all that it found out, when the block is left. False, and nothing is deleted, if it
        has not ended, has made checkpoints, or belongs to a job that is still there."""
        parent = jobs.alias()
        kept = sa.select(checkpoints.c.identifier).where(checkpoints.c.job_id == job_id)
        asked = sa.select(parent.c.number).where(parent.c.job_id == jobs.c.parent_id)
        with self.database.write() as connection:
            deleted = connection.execute(
                sa.delete(jobs).where(
                    jobs.c.job_id == job_id, jobs.c.ended_at.is_not(None), ~kept.exists(), ~asked.exists()
                )
            )
            yield deleted.rowcount == 1

    def is_live(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt is the job's running one."""
        with self.database.read() as connection:
            found = connection.execute(
                sa.select(jobs.c.number).where(
                    jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.status == "in_progress"
                )
            ).one_or_none()
        return found is not None

    def counts_by_kind(self) -> dict[tuple[str, str], int]:
        """How many jobs there are of each kind and status; none of a combination is left out for the kinds that occur."""
        query = sa.select(jobs.c.kind, jobs.c.status, sa.func.count().label("num_jobs")).group_by(
            jobs.c.kind, jobs.c.status
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        nothing = {(row.kind, status.value): 0 for row in rows for status in JobStatus}
        return nothing | {(row.kind, row.status): row.num_jobs for row in rows}

    def oldest_scheduled_seconds(self) -> float:
        """How long the job has waited that was submitted first of those that wait; 0 if none does."""
        query = sa.select(self.database.now() - sa.func.min(jobs.c.created_at)).where(jobs.c.status == "scheduled")
        with self.database.read() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def readers(self, dataset_id: str, connection: sa.Connection) -> Sequence[str]:
        """Unfinished jobs that read this dataset."""
        query = (
            sa.select(jobs.c.job_id)
            .join(job_datasets, job_datasets.c.job_id == jobs.c.job_id)
            .where(job_datasets.c.dataset_id == dataset_id, jobs.c.status.in_(("scheduled", "in_progress")))
        )
        return connection.execute(query).scalars().all()

    def of_benchmark(self, benchmark_id: str, connection: sa.Connection) -> Sequence[str]:
        """Unfinished jobs of this benchmark."""
        query = sa.select(jobs.c.job_id).where(
            jobs.c.benchmark_id == benchmark_id, jobs.c.status.in_(("scheduled", "in_progress"))
        )
        return connection.execute(query).scalars().all()

    def events(self, job_id: str, *, after: int = 0) -> Sequence[dict[str, Any]]:
        """What happened to a job, in order; `after` is the `event_id` of the last one known."""
        query = (
            sa.select(job_events)
            .where(job_events.c.job_id == job_id, job_events.c.event_id > after)
            .order_by(job_events.c.event_id)
        )
        with self.database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def metrics(self, job_id: str, *, after: int = -1) -> Sequence[dict[str, Any]]:
        """The series of a job's metrics: `{step, at, …}`, in order of steps above `after`."""
        query = (
            sa.select(job_metrics)
            .where(job_metrics.c.job_id == job_id, job_metrics.c.step > after)
            .order_by(job_metrics.c.step)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [{"step": row.step, "at": row.at, **wire.from_json(row.values_json)} for row in rows]


def _job(row: sa.Row[Any], reads: Sequence[sa.Row[Any]]) -> Job:
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        benchmark_id=row.benchmark_id,
        request=wire.from_json(row.request_json),
        status=JobStatus(row.status),
        attempt=row.attempt,
        num_lost=row.num_lost,
        num_retries=row.num_retries,
        priority=row.priority,
        not_before=row.not_before,
        progress_done=row.progress_done,
        progress_total=row.progress_total,
        progress_unit=row.progress_unit,
        resources=None if row.resources_json is None else wire.from_json(row.resources_json),
        put_off=row.put_off,
        error=row.error,
        retryable=row.retryable,
        log_tail=row.log_tail,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        number=row.number,
        parent_id=row.parent_id,
        reads=tuple(DatasetVersion(r.dataset_id, r.generation, r.num_rows) for r in reads),
    )

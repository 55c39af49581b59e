"""What a running job holds in its hand: its fence, its progress, and whether it should stop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from paddock.errors import LostLeaseError
from paddock.jobs import report_store, states
from paddock.jobs.job import Job
from paddock.jobs.store import JobStore

_REPORT_EVERY_SECONDS = 0.2


class StopRequestedError(Exception):
    """The process was asked to end and its work is resumable: the job goes on at the next start."""


class Progress:
    """One attempt at one job, inside its process."""

    def __init__(self, job: Job, jobs: JobStore) -> None:
        self.job = job
        self.database = jobs.database
        self._reported_at = 0.0
        self._num_done = job.progress_done
        self._points: dict[int, dict[str, Any]] = {}
        self.should_stop = False
        self._is_saving = False
        self._is_cancelled = False

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction in the name of this attempt. Raises `LostLeaseError`, writing nothing, if it is over."""
        with self.database.write() as connection:
            states.hold(connection, self.job.job_id, self.job.attempt, or_cancelled=self._is_saving)
            yield connection

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of something that is worth having even of a cancelled job, such as a checkpoint: a cancel
        that comes meanwhile lets it end, within the grace, and the last `write` still counts."""
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False
        if self._is_cancelled:
            raise LostLeaseError(f"The job {self.job.job_id} was cancelled.")

    def cancel(self) -> None:
        """The job was cancelled: end this process, at once unless something is being saved. Callable from any thread."""
        self._is_cancelled = True
        if not self._is_saving:
            # Nothing that this process still does would count; whatever it leaves open is as after a kill.
            os._exit(0)

    def report(self, done: int, total: int | None, unit: str, *, now: bool = False) -> None:
        """Say how far the job is: `done` of `total` units (`rows`, `steps`). Written a few times a second at most,
        together with the metrics noted since; `now=True` writes at once."""
        self._num_done = done
        due = time.monotonic() - self._reported_at >= _REPORT_EVERY_SECONDS
        if not (due or now or done == total):
            return
        with self.write() as connection:
            report_store.set_progress(connection, self.job.job_id, done=done, total=total, unit=unit)
            self.flush_metrics(connection)
        self._reported_at = time.monotonic()

    @property
    def has_advanced(self) -> bool:
        """Whether this attempt came further than those before it."""
        return self._num_done > self.job.progress_done

    def note_metrics(self, step: int, **values: Any) -> None:
        """Add a point to the job's series (`loss=…, lr=…`); it is stored with the next report or checkpoint."""
        self._points.setdefault(step, {}).update(values)

    def flush_metrics(self, connection: sa.Connection) -> None:
        """Store the points noted since, in a fenced transaction that is open."""
        if self._points:
            report_store.add_metrics(connection, self.job.job_id, self._points)
            self._points = {}

    def set_resources(self, **resources: Any) -> None:
        """Store what the job runs on: devices, threads, memory, rates."""
        with self.write() as connection:
            report_store.set_resources(connection, self.job.job_id, resources)

    def ask_to_stop(self) -> None:
        """The process should end: the work stores what makes it resumable, then calls `check_stop`."""
        self.should_stop = True

    def check_stop(self) -> None:
        """Raise `StopRequestedError` if the process was asked to end; call it where the work is resumable."""
        if self.should_stop:
            raise StopRequestedError

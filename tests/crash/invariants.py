"""What must hold of jobs whatever crashes: checked after every step, and once more when everything has come to rest."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa

from paddock.storage.database import Database
from paddock.storage.tables import generations, job_events, jobs, scores

FINAL = ("completed", "failed", "cancelled")

_STATUS_AFTER = {
    "submitted": "scheduled",
    "started": "in_progress",
    "lost": "scheduled",
    "put off": "scheduled",
    "handed back": "scheduled",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class Violation(AssertionError):
    """Something was lost, done twice, or written by a process that had no right to."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


@dataclass
class Watch:
    """What is known of the jobs of one schedule. `acknowledged` are jobs whose submission was answered, `cancelled` those
    whose cancel was, `stored` the rows whose transaction was reported as committed to whoever wrote them."""

    database: Database
    job_ids: Collection[str]
    max_lost: int
    is_attributed: bool = True
    """Whether a row says which attempt wrote it (`{"by": …}`), and every change was looked at by itself."""
    acknowledged: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    stored: set[tuple[str, int]] = field(default_factory=set)
    _ended: dict[str, str] = field(default_factory=dict)
    _rows: dict[tuple[str, int], str] = field(default_factory=dict)
    _scores: dict[tuple[str, int], str] = field(default_factory=dict)
    _running: dict[str, int] = field(default_factory=dict)
    """Job → its running attempt, as of the last look."""

    def look(self, *, by: tuple[str, int] | None = None) -> None:
        """Check everything that must hold at any time. `by`: since the last look only this attempt at this job did
        anything."""
        with self.database.read() as connection:
            states = connection.execute(sa.select(jobs).where(jobs.c.job_id.in_(self.job_ids))).all()
            events = connection.execute(
                sa.select(job_events).where(job_events.c.job_id.in_(self.job_ids)).order_by(job_events.c.event_id)
            ).all()
            rows = connection.execute(sa.select(generations).where(generations.c.job_id.in_(self.job_ids))).all()
            marks = connection.execute(sa.select(scores).where(scores.c.job_id.in_(self.job_ids))).all()
        self._check_jobs(states, events)
        self._check_rows({(row.job_id, row.row_index): row.generation_json for row in rows}, self._rows)
        self._check_rows({(row.job_id, row.row_index): row.score_json for row in marks}, self._scores)
        require(self.stored <= self._rows.keys(), f"acknowledged rows are gone: {self.stored - self._rows.keys()}")
        require(
            not self.is_attributed or self._scores.keys() == self._rows.keys(), "a transaction left half of its rows"
        )
        running = {job.job_id: job.attempt for job in states if job.status == "in_progress"}
        if by is not None and running != self._running:
            require(self._running.get(by[0]) == by[1], f"{by} changed the state of a job that it was not running")
        self._running = running

    def _check_jobs(self, states: Collection[sa.Row], events: Collection[sa.Row]) -> None:
        status = {job.job_id: job.status for job in states}
        require(self.acknowledged <= status.keys(), f"acknowledged jobs are gone: {self.acknowledged - status.keys()}")
        for job_id, ended in self._ended.items():
            require(status.get(job_id) == ended, f"{job_id} was {ended} and is {status.get(job_id)}")
        for job_id in self.cancelled:
            require(status[job_id] == "cancelled", f"{job_id} was cancelled and is {status[job_id]}")
        self._ended |= {job_id: found for job_id, found in status.items() if found in FINAL}
        for job in states:
            history = [event for event in events if event.job_id == job.job_id]
            names = [event.event for event in history]
            require(names[0] == "submitted", f"{job.job_id}: {names}")
            require(_STATUS_AFTER[names[-1]] == job.status, f"{job.job_id} is {job.status} after {names}")
            require(sum(name in FINAL for name in names) <= 1, f"{job.job_id} ended twice: {names}")
            require(names.count("started") == job.attempt, f"{job.job_id}, attempt {job.attempt}: {names}")
            require(
                names.count("lost") + (names[-1] == "failed" and job.num_lost == self.max_lost) == job.num_lost,
                f"{names}",
            )
            require(job.num_lost <= self.max_lost, f"{job.job_id} was lost {job.num_lost} times")
            attempts = [event.attempt for event in history]
            require(attempts == sorted(attempts), f"{job.job_id}: attempts {attempts}")

    def _check_rows(self, found: dict[tuple[str, int], str], known: dict[tuple[str, int], str]) -> None:
        for key, text in known.items():
            require(found.get(key) == text, f"row {key} was {text} and is {found.get(key)}")
        for key in found.keys() - known.keys() if self.is_attributed else ():
            # A row says which attempt wrote it.
            attempt = self._running.get(key[0])
            require(json.loads(found[key])["by"] == attempt, f"row {key}: {found[key]}, and {attempt} was running")
        known |= found

    def check_leases(self) -> None:
        """To be called when a living worker has just looked: no running job has a lease that ran out."""
        with self.database.read() as connection:
            lapsed = (
                connection.execute(
                    sa.select(jobs.c.job_id).where(
                        jobs.c.job_id.in_(self.job_ids),
                        jobs.c.status == "in_progress",
                        jobs.c.lease_expires_at < self.database.now(),
                    )
                )
                .scalars()
                .all()
            )
        require(not lapsed, f"jobs in progress without a living lease: {lapsed}")

    def at_rest(self, num_rows: dict[str, int]) -> None:
        """When nothing is left to do: every job has ended, and the completed ones have all their rows."""
        self.look()
        for job_id in self.acknowledged:
            require(self._ended.get(job_id) is not None, f"{job_id} never ended")
        for job_id, ended in self._ended.items():
            found = sum(key[0] == job_id for key in self._rows)
            if ended == "completed":
                require(found == num_rows[job_id], f"{job_id} is completed with {found} of {num_rows[job_id]} rows")
                require(self._scores.keys() == self._rows.keys(), f"{job_id} is completed without all its scores")

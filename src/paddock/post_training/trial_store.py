"""The trials of hyperparameter searches in the database. A trial and the job that trains it begin in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from paddock import wire
from paddock.storage.database import Database
from paddock.storage.tables import search_trials

TrialStatus = Literal["running", "completed", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial. `params` are JSON pointers into the request and their values; `value` is the objective, of a completed
    one; `losses` the validation losses after each epoch, up to where it ended."""

    number: int
    job_id: str
    params: dict[str, Any]
    status: TrialStatus = "running"
    value: float | None = None
    losses: tuple[float, ...] = ()
    error: str | None = None
    eval_job_id: str | None = None


def trial_id(search_id: str, number: int) -> str:
    """The id of the job that trains a trial."""
    return f"{search_id}:trial-{number}"


def searched_by(job_id: str) -> str | None:
    """The search whose trial would bear this id; None for an id that is no trial's."""
    search_id, separator, number = job_id.rpartition(":trial-")
    return search_id if separator and number.isdecimal() else None


class TrialStore:
    """Trials by search and number, from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_search(self, search_id: str) -> list[Trial]:
        """All trials of a search, in their order."""
        query = sa.select(search_trials).where(search_trials.c.search_id == search_id).order_by(search_trials.c.number)
        with self._database.read() as connection:
            return [_trial(row) for row in connection.execute(query)]

    def begin(self, connection: sa.Connection, search_id: str, trial: Trial) -> None:
        """A trial begins, whose job was inserted in this transaction; the caller holds the search's fence."""
        connection.execute(
            sa.insert(search_trials).values(
                search_id=search_id,
                number=trial.number,
                job_id=trial.job_id,
                params_json=wire.to_json(trial.params),
                status="running",
            )
        )

    def is_scored_by(self, connection: sa.Connection, search_id: str, number: int, eval_job_id: str) -> None:
        """The job that scores a trial was inserted in this transaction; the caller holds the search's fence."""
        which = search_trials.c.search_id == search_id, search_trials.c.number == number
        connection.execute(sa.update(search_trials).where(*which).values(eval_job_id=eval_job_id))

    def end(self, connection: sa.Connection, search_id: str, ended: Trial) -> None:
        """Store how a trial ended, once; the caller holds the search's fence."""
        which = search_trials.c.search_id == search_id, search_trials.c.number == ended.number
        stored = connection.execute(
            sa.update(search_trials)
            .where(*which, search_trials.c.status == "running")
            .values(
                status=ended.status,
                value=ended.value,
                losses_json=wire.to_json(ended.losses),
                error=ended.error,
            )
        )
        assert stored.rowcount == 1


def _trial(row: sa.Row[Any]) -> Trial:
    return Trial(
        number=row.number,
        job_id=row.job_id,
        params=wire.from_json(row.params_json),
        status=row.status,
        value=row.value,
        losses=() if row.losses_json is None else tuple(wire.from_json(row.losses_json)),
        error=row.error,
        eval_job_id=row.eval_job_id,
    )

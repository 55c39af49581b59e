"""A short run of fixed seeds, and the harness's own sensitivity: code that is broken on purpose must be caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from crash.faulty_database import WHERES, FaultyDatabase
from crash.invariants import Violation
from crash.simulation import World
from paddock.jobs import states
from paddock.jobs.store import JobStore
from paddock.storage import tables

Run = Callable[..., Counter[tuple[str, str]]]

WRITES = {
    *("store.submit", "store.cancel", "store.claim", "store.prioritize"),
    *("worker._renew_leases", "worker._give_back", "worker._recover"),
    *("simulation._work", "progress.report", "runners.end_well", "runners.end_badly"),
}


@pytest.fixture
def faulty(database_url: str, tmp_path: Path) -> Iterator[FaultyDatabase]:
    database = FaultyDatabase(database_url, sqlite_file=tmp_path / "faulty.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def run(faulty: FaultyDatabase, tmp_path: Path) -> Run:
    def run_seeds(*seeds: int) -> Counter[tuple[str, str]]:
        crashes: Counter[tuple[str, str]] = Counter()
        for seed in seeds:
            World(faulty, tmp_path, seed, crashes).run()
        return crashes

    return run_seeds


def test_nothing_is_lost_whatever_crashes(run: Run, faulty: FaultyDatabase) -> None:
    crashes = run(*range(40 if faulty.is_sqlite else 5))
    assert {name for name, _ in crashes} <= WRITES, "a durable write is new: name it here"
    if faulty.is_sqlite:
        assert ({name for name, _ in crashes}, {where for _, where in crashes}) == (WRITES, set(WHERES))


def test_a_schedule_is_a_function_of_its_seed(run: Run, faulty: FaultyDatabase) -> None:
    def history() -> list[Any]:
        columns = [tables.job_events.c[name] for name in ("job_id", "attempt", "event", "at")]
        with faulty.write() as connection:
            found = [
                tuple(row) for row in connection.execute(sa.select(*columns).order_by(tables.job_events.c.event_id))
            ]
            connection.execute(sa.delete(tables.jobs))
            return found

    faulty.clock = start = 1e9
    first = run(7)
    before = history()
    faulty.clock = start
    assert run(7) == first
    assert history() == before
    assert len(before) > 3


def _no_fence(*_args: Any, **_options: Any) -> None:
    """Instead of `states.hold`."""


def _any_attempt(job_id: str, _attempt: int) -> tuple[sa.ColumnElement[bool], ...]:
    return tables.jobs.c.job_id == job_id, tables.jobs.c.status == "in_progress"


def _nobody_is_lost(*_args: Any, **_options: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    ("place", "name", "broken", "words"),
    [
        (states, "hold", _no_fence, "was running"),
        (states, "_running", _any_attempt, "not running"),
        (JobStore, "lost", _nobody_is_lost, "without a living lease"),
    ],
)
def test_a_broken_fence_is_caught(
    run: Run, faulty: FaultyDatabase, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, broken: Any, words: str
) -> None:
    if name == "_running" and not faulty.is_sqlite:
        return  # found the same way, but it takes a minute there
    monkeypatch.setattr(place, name, broken)
    with pytest.raises(Violation, match=words):
        run(*range(200))

"""A few schedules with real processes, of fixed seeds, and a few cancel races; `make crash` runs hundreds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from crash.live import LiveWorld


def test_processes_that_are_killed_or_stopped_while_they_write(tmp_path: Path, database_url: str) -> None:
    crashes: Counter[tuple[str, str]] = Counter()
    with LiveWorld(database_url, tmp_path, crashes) as world:
        # The claim, before its commit; the rows, inside of their transaction; the end of the job, after its commit.
        for seed in (14, 33, 39):
            world.run(seed)
    assert sum(crashes.values()) >= 1, "no plan was carried out: do the names of writes in `crash.live` still hold?"


def test_cancels_at_any_moment(tmp_path: Path) -> None:
    with LiveWorld("sqlite", tmp_path, Counter()) as world:
        for seed in range(4):
            world.race(seed)

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from paddock.inference.engine import Model
from paddock.jobs import retention, states
from paddock.jobs.job import NewJob
from paddock.post_training.store import StoredCheckpoint
from paddock.storage import tables
from paddock.wiring import Resources


def _job(resources: Resources, job_id: str, *, ended_days_ago: float | None) -> Path:
    """A job with a log and a resume point; its folder."""
    resources.jobs.submit(NewJob(job_id, "sft", {}))
    assert resources.jobs.claim(worker_id="w", lease_seconds=60)
    if ended_days_ago is not None:
        with resources.database.write() as connection:
            states.complete(connection, resources.database.now(), job_id, 1)
            ended_at = tables.jobs.c.ended_at - ended_days_ago * 86400
            connection.execute(sa.update(tables.jobs).where(tables.jobs.c.job_id == job_id).values(ended_at=ended_at))
    folder = resources.data_dir.job_folder(job_id)
    (folder / "resume").mkdir(parents=True)
    (folder / "attempt-1.log").write_text("said")
    return folder


def _prune(resources: Resources, *, logs: float | None = None, jobs: float | None = None) -> tuple[int, int]:
    return retention.prune(resources.jobs, resources.data_dir, logs_older_than_days=logs, jobs_older_than_days=jobs)


def test_only_what_ended_long_ago_goes(resources: Resources) -> None:
    folders = {
        job_id: _job(resources, job_id, ended_days_ago=days)
        for job_id, days in (("old", 10.0), ("new", 1.0), ("running", None))
    }
    assert _prune(resources) == (0, 0)
    assert _prune(resources, logs=0.5, jobs=5) == (1, 1)
    assert {job.job_id for job in resources.jobs.list()} == {"new", "running"}
    assert not folders["old"].exists()
    assert [(folders[name] / "attempt-1.log").exists() for name in ("new", "running")] == [False, True]
    assert resources.jobs.events("old") == []
    assert sorted(path.name for path in resources.data_dir.jobs.iterdir()) == sorted(
        folders[name].name for name in ("new", "running")
    )


def test_a_job_that_made_checkpoints_stays(resources: Resources) -> None:
    folder = _job(resources, "tune", ended_days_ago=10)
    with resources.database.write() as connection:
        checkpoint = StoredCheckpoint("tune:epoch-1", "tune", 1, "x/epoch-1", "0", None, time.time())
        model = Model("tune:epoch-1", "local", "x/epoch-1", job_id="tune")
        resources.checkpoints.publish(connection, checkpoint, model)
    assert _prune(resources, logs=5, jobs=5) == (1, 0)
    assert resources.jobs.get("tune").status == "completed"
    assert (folder / "resume").exists()


def test_a_job_that_another_started_goes_after_that_one(resources: Resources) -> None:
    _job(resources, "search", ended_days_ago=None)
    resources.jobs.submit(NewJob("trial", "eval", {}, parent_id="search"))
    resources.jobs.cancel("trial")
    assert _prune(resources, jobs=0) == (0, 0)
    resources.jobs.cancel("search")
    assert _prune(resources, jobs=0) == (0, 2)


def test_a_crash_before_the_commit_keeps_the_job_and_after_it_is_swept(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _job(resources, "old", ended_days_ago=10)

    def crash(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(retention.shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            _prune(resources, jobs=5)
    assert resources.jobs.find("old") is None
    assert not folder.exists()
    # A job of the same id begins anew meanwhile: its files are its own.
    folder = _job(resources, "old", ended_days_ago=None)
    _prune(resources)
    assert list(resources.data_dir.jobs.iterdir()) == [folder]
    assert (folder / "attempt-1.log").read_text() == "said"

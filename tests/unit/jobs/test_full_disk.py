"""A job on a full disk: it fails with that reason, as soon as even that can be stored."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from paddock import runners
from paddock.errors import NoSpaceError
from paddock.jobs import local, retention
from paddock.jobs.job import Job, NewJob
from paddock.jobs.progress import Progress
from paddock.jobs.store import JobStore
from paddock.jobs.worker import Worker
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database


class _FillingDatabase(Database):
    is_full = False

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        if self.is_full:
            raise NoSpaceError("The disk is full: nothing of this request was stored.")
        with super().write() as connection:
            yield connection


class _Ended(local.JobProcess):
    """A process that has ended with a code."""

    def __init__(self, job: Job, settings: Settings, log_file: Path, code: int) -> None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._code = code
        super().__init__(job, settings, log_file)

    @property
    def exit_code(self) -> int | None:
        return self._code


@pytest.fixture
def database(data_dir: DataDir) -> Iterator[_FillingDatabase]:
    database = _FillingDatabase("sqlite", sqlite_file=data_dir.database_file)
    database.migrate()
    yield database
    database.close()


def _start(jobs: JobStore) -> Progress:
    jobs.submit(NewJob("a", "eval", {}))
    job = jobs.claim(worker_id="w", lease_seconds=60)
    assert job is not None
    return Progress(job, jobs)


@pytest.mark.parametrize("ends_well", [True, False])
def test_the_end_of_a_job_that_cannot_be_stored(
    database: _FillingDatabase, settings: Settings, tmp_path: Path, *, ends_well: bool
) -> None:
    progress = _start(JobStore(database))
    database.is_full = True
    if ends_well:
        assert runners.end_well(progress) == local.EXIT_NO_SPACE
    else:
        assert runners.end_badly(progress, settings, OSError(28, "full"), tmp_path / "log") == local.EXIT_NO_SPACE
    database.is_full = False
    assert JobStore(database).get("a").status == "in_progress"


def test_the_worker_says_so_once_it_can(database: _FillingDatabase, settings: Settings, data_dir: DataDir) -> None:
    jobs = JobStore(database)

    def start(job: Job, job_settings: Settings, log_file: Path) -> local.JobProcess:
        return _Ended(job, job_settings, log_file, local.EXIT_NO_SPACE)

    worker = Worker(settings, data_dir, jobs, start)
    jobs.submit(NewJob("a", "eval", {}))
    worker.tend()
    database.is_full = True
    with pytest.raises(NoSpaceError):
        worker.tend()
    assert jobs.get("a").status == "in_progress"
    database.is_full = False
    worker.tend()
    job = jobs.get("a")
    assert (job.status, job.retryable, job.num_lost) == ("failed", True, 0)
    assert job.error == "The disk is full. Make room, then send the request again."
    assert [event["event"] for event in jobs.events("a")] == ["submitted", "started", "failed"]


def test_a_job_whose_log_has_no_room_is_not_begun(
    database: _FillingDatabase, settings: Settings, data_dir: DataDir
) -> None:
    jobs = JobStore(database)

    def start(_job: Job, _settings: Settings, _log_file: Path) -> local.JobProcess:
        raise OSError(errno.ENOSPC, "No space left on device")

    worker = Worker(settings, data_dir, jobs, start)
    for job_id in ("a", "b"):
        jobs.submit(NewJob(job_id, "eval", {}))
    worker.tend()
    for job_id in ("a", "b"):
        job = jobs.get(job_id)
        assert (job.status, job.retryable, job.num_lost) == ("failed", True, 0)
        assert job.error == "The disk is full. Make room, then send the request again."


def test_clearing_away_is_tried_again_another_time(database: _FillingDatabase, data_dir: DataDir) -> None:
    jobs = JobStore(database)
    progress = _start(jobs)
    assert runners.end_well(progress) == 0
    database.is_full = True
    with pytest.raises(NoSpaceError):
        retention.prune(jobs, data_dir, logs_older_than_days=None, jobs_older_than_days=0)
    database.is_full = False
    assert retention.prune(jobs, data_dir, logs_older_than_days=None, jobs_older_than_days=0) == (0, 1)

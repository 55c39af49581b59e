"""Clearing away what ended jobs left behind: logs, and whole jobs with their results.

What a job that has not ended needs, and a job that made a checkpoint, is never touched.

A folder is renamed in the transaction that forgets its job, and deleted afterwards: a job of the same id that is
submitted right then never loses its files, and what a crash leaves is swept the next time.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from paddock.jobs.store import JobStore
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.jobs")

_FIRST_SECONDS = 5.0
_PAUSE_SECONDS = 3600.0
_TRASH_PREFIX = "pruned-"
_LOT = 200


def prune(
    jobs: JobStore, data_dir: DataDir, *, logs_older_than_days: float | None, jobs_older_than_days: float | None
) -> tuple[int, int]:
    """Delete the logs of jobs that ended so long ago, and the jobs, each if it is asked for. Returns how many logs (jobs
    that had some) and how many jobs."""
    num_jobs = num_logs = 0
    for job_id in _ended(jobs, jobs_older_than_days):
        with jobs.forgetting(job_id) as is_forgotten:
            if is_forgotten:
                _discard(data_dir.job_folder(job_id))
                num_jobs += 1
    for job_id in _ended(jobs, logs_older_than_days):
        num_logs += _delete_logs(data_dir.job_folder(job_id))
    for trash in data_dir.jobs.glob(f"{_TRASH_PREFIX}*"):
        shutil.rmtree(trash, ignore_errors=True)
    return num_logs, num_jobs


def keep_pruning(jobs: JobStore, data_dir: DataDir, settings: Settings) -> Callable[[], None]:
    """Do so every hour in a thread, as `keep_logs_days` and `keep_jobs_days` say. Returns what ends it."""
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(_FIRST_SECONDS):
            try:
                prune(
                    jobs,
                    data_dir,
                    logs_older_than_days=settings.keep_logs_days,
                    jobs_older_than_days=settings.keep_jobs_days,
                )
            except Exception:  # the database may be away for a while
                log.exception("What ended jobs left behind could not be cleared away.")
            ending.wait(_PAUSE_SECONDS)

    if settings.keep_logs_days is not None or settings.keep_jobs_days is not None:
        threading.Thread(target=run, name="retention", daemon=True).start()
    return ending.set


def _ended(jobs: JobStore, older_than_days: float | None) -> Iterator[str]:
    after = 0
    while older_than_days is not None and (lot := jobs.ended(older_than_days=older_than_days, limit=_LOT, after=after)):
        for after, job_id in lot:  # noqa: B007 -- the next lot is asked for after the last of this one
            yield job_id


def _discard(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder.rename(folder.with_name(f"{_TRASH_PREFIX}{uuid.uuid4().hex}"))


def _delete_logs(folder: Path) -> bool:
    logs = list(folder.glob("attempt-*.log"))
    for log in logs:
        log.unlink(missing_ok=True)
    return bool(logs)

"""A copy of all state while everything runs: the database as it is at one moment, and the files that it names.

Files of checkpoints never change once their row is there, and a job's resume point is deleted only after its successor's
row is: what the copied database names is copied, or the database is copied again. The copy has its name when it is whole.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.storage.data_dir import DataDir, sync_folder
from paddock.storage.database import Database
from paddock.storage.tables import checkpoints, job_events, jobs, resume_points

_PAGES_AT_ONCE = 2000
_MAX_TRIES = 5


def back_up(data_dir: DataDir, target: Path) -> None:
    """Make `target`, a folder that is not there yet or is empty, a copy that a server can be started on.

    Raises `NotFoundError` if there is nothing to copy, `ConflictError` if something is in the way."""
    if not data_dir.database_file.exists():
        raise NotFoundError(f"There is no database in {data_dir.root}: nothing to copy.")
    target = target.expanduser().resolve()
    if target.exists() and any(target.iterdir()):
        raise ConflictError(f"{target} is not empty. Name a folder that is not there yet.")
    if target.is_relative_to(data_dir.root):
        raise InvalidRequestError(
            "The copy cannot lie within what is copied. Name a folder outside of the data directory."
        )
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    copy = DataDir(unfinished)
    copy.create()
    try:
        _copy(data_dir, copy)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    if target.exists():
        target.rmdir()
    unfinished.rename(target)
    sync_folder(target.parent)


def _copy(source: DataDir, copy: DataDir) -> None:
    for _ in range(_MAX_TRIES):
        _copy_database(source.database_file, copy.database_file)
        database = Database("sqlite", sqlite_file=copy.database_file)
        try:
            folders = list(_named_folders(database, source, copy))
            if all(_copy_folder(*pair) for pair in folders):
                _hand_back(database)
                break
        finally:
            database.close()
    else:
        raise ConflictError("Running jobs replaced their files faster than they could be copied. Try again.")
    for log in source.jobs.glob("*/attempt-*.log"):
        _copy_file(log, copy.root / log.relative_to(source.root))
    for folder, _, names in os.walk(copy.root, topdown=False):
        for name in names:
            _sync_file(Path(folder) / name)
        sync_folder(Path(folder))


def _copy_database(source: Path, copy: Path) -> None:
    # The library's own way: it takes what is committed, in steps between which others write.
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as opened, closing(sqlite3.connect(copy)) as new:
        try:
            opened.backup(new, pages=_PAGES_AT_ONCE)
        except sqlite3.DatabaseError as error:
            raise InvalidRequestError(f"The database {source} cannot be copied: {error}.") from None


def _named_folders(database: Database, source: DataDir, copy: DataDir) -> Iterator[tuple[Path, Path]]:
    """From where to where: the folders that the copied database names."""
    with database.read() as connection:
        for path in connection.execute(sa.select(checkpoints.c.path)).scalars():
            yield source.checkpoints / path, copy.checkpoints / path
        for point in connection.execute(sa.select(resume_points.c.job_id, resume_points.c.path)):
            relative = Path("resume") / point.path
            yield source.job_folder(point.job_id) / relative, copy.job_folder(point.job_id) / relative


def _copy_folder(source: Path, copy: Path) -> bool:
    """Copy a folder; False if it was deleted meanwhile, in whole or in part."""
    if copy.exists():
        return True
    try:
        shutil.copytree(source, copy)
        names = sorted(path.relative_to(source) for path in source.rglob("*"))
    except (FileNotFoundError, shutil.Error):
        shutil.rmtree(copy, ignore_errors=True)
        return False
    if source.is_dir() and names == sorted(path.relative_to(copy) for path in copy.rglob("*")):
        return True
    shutil.rmtree(copy)
    return False


def _copy_file(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, copy)
    except FileNotFoundError:  # it was pruned
        copy.unlink(missing_ok=True)


def _sync_file(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _hand_back(database: Database) -> None:
    """In the copy no job runs: those that did wait for its server, and none of them counts as lost."""
    running = sa.select(jobs.c.job_id, jobs.c.attempt).where(jobs.c.status == "in_progress")
    with database.write() as connection:
        for job in connection.execute(running).all():
            values = {"status": "scheduled", "worker_id": None, "lease_expires_at": None}
            connection.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(**values))
            event = {"job_id": job.job_id, "attempt": job.attempt, "at": database.now(), "event": "handed back"}
            connection.execute(sa.insert(job_events).values(**event, detail="The server was backed up."))

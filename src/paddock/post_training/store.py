"""Checkpoints and resume points in the database, and where their files lie.

A checkpoint exists once its row does; its files were written and synced before (`checkpoints`). Paths in the database
are relative: to the checkpoint root, and to a job's own folder.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.inference.engine import Model
from paddock.inference.store import ModelStore
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database
from paddock.storage.tables import checkpoints, jobs, resume_points


@dataclass(frozen=True)
class StoredCheckpoint:
    """One epoch's weights. `path` is the folder below the checkpoint root, `sha256` that of the tensor file;
    `metrics` has train_loss, validation_loss and perplexity, or is None where nothing was validated."""

    identifier: str
    job_id: str
    epoch: int
    path: str
    sha256: str
    metrics: dict[str, float] | None
    created_at: float


class CheckpointStore:
    """What training left behind, by job."""

    def __init__(self, database: Database, data_dir: DataDir, models: ModelStore) -> None:
        self._database = database
        self._data_dir = data_dir
        self._models = models

    @property
    def root(self) -> Path:
        """The folder below which all checkpoints lie."""
        return self._data_dir.checkpoints

    def of_job(self, job_id: str) -> list[StoredCheckpoint]:
        """The checkpoints that a job has published, by epoch."""
        query = sa.select(checkpoints).where(checkpoints.c.job_id == job_id).order_by(checkpoints.c.epoch)
        with self._database.read() as connection:
            return [_checkpoint(row) for row in connection.execute(query)]

    def publish(self, connection: sa.Connection, checkpoint: StoredCheckpoint, model: Model) -> None:
        """Make a checkpoint and the model of the same id exist; the caller holds the job's fence."""
        values = {name: value for name, value in vars(checkpoint).items() if name != "metrics"}
        metrics_json = None if checkpoint.metrics is None else wire.to_json(checkpoint.metrics)
        connection.execute(sa.insert(checkpoints).values(**values, metrics_json=metrics_json))
        self._models.register(model, connection)

    def job_folder(self, job_id: str) -> Path:
        """The folder of a job's own files, of which nobody else knows."""
        return self._data_dir.job_folder(job_id)

    def log_file(self, job_id: str, attempt: int) -> Path:
        """Where a job's processes write what they have to say."""
        return self._data_dir.log_file(job_id, attempt)

    def resume_root(self, job_id: str) -> Path:
        """The folder below which a job's resume points lie."""
        return self.job_folder(job_id) / "resume"

    def resume_point(self, job_id: str) -> Path | None:
        """The folder of the state from which a job goes on, or None for one that begins: also where the folder is not
        here, for another server wrote it."""
        query = sa.select(resume_points.c.path).where(resume_points.c.job_id == job_id)
        with self._database.read() as connection:
            path = connection.execute(query).scalar_one_or_none()
        folder = None if path is None else self.resume_root(job_id) / path
        return folder if folder is not None and folder.is_dir() else None

    def set_resume_point(self, connection: sa.Connection, job_id: str, *, step: int, path: str) -> None:
        """From now on the job goes on from the folder `path`; the caller holds the job's fence."""
        connection.execute(sa.delete(resume_points).where(resume_points.c.job_id == job_id))
        connection.execute(sa.insert(resume_points).values(job_id=job_id, step=step, path=path, created_at=time.time()))

    def drop_resume_point(self, connection: sa.Connection, job_id: str) -> None:
        """The job's work is done: forget where it would go on, and delete the files."""
        shutil.rmtree(self.resume_root(job_id), ignore_errors=True)
        connection.execute(sa.delete(resume_points).where(resume_points.c.job_id == job_id))

    def drop_dead_resume_points(self) -> None:
        """The same for jobs that failed or were cancelled, which had no time to do it."""
        over = jobs.c.status.in_(("completed", "failed", "cancelled"))
        query = sa.select(jobs.c.job_id).join(resume_points, resume_points.c.job_id == jobs.c.job_id).where(over)
        with self._database.write() as connection:
            for job_id in list(connection.execute(query).scalars()):
                self.drop_resume_point(connection, job_id)


def _checkpoint(row: sa.Row[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(
        identifier=row.identifier,
        job_id=row.job_id,
        epoch=row.epoch,
        path=row.path,
        sha256=row.sha256,
        metrics=None if row.metrics_json is None else wire.from_json(row.metrics_json),
        created_at=row.created_at,
    )

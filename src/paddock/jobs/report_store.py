"""What a running job says of itself in the database: how far it is, what it runs on, what it measures. Each is called in a
fenced transaction (`progress`)."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.storage.tables import job_metrics, jobs


def set_progress(connection: sa.Connection, job_id: str, *, done: int, total: int | None, unit: str) -> None:
    """Store how far a job is. The caller holds the job's fence."""
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(progress_done=done, progress_total=total, progress_unit=unit)
    )


def set_resources(connection: sa.Connection, job_id: str, resources: dict[str, Any]) -> None:
    """Store what a job runs on and uses. The caller holds the job's fence."""
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(resources_json=wire.to_json(resources)))


def add_metrics(connection: sa.Connection, job_id: str, points: dict[int, dict[str, Any]]) -> None:
    """Add values to a job's metrics by step; those of the same name, from an earlier attempt, are replaced. The caller
    holds the fence."""
    there = job_metrics.c.job_id == job_id, job_metrics.c.step.in_(list(points))
    stored = connection.execute(sa.select(job_metrics.c.step, job_metrics.c.values_json).where(*there)).all()
    merged = {row.step: wire.from_json(row.values_json) for row in stored}
    connection.execute(sa.delete(job_metrics).where(*there))
    connection.execute(
        sa.insert(job_metrics),
        [
            {
                "job_id": job_id,
                "step": step,
                "at": time.time(),
                "values_json": wire.to_json(merged.get(step, {}) | values),
            }
            for step, values in points.items()
        ],
    )

"""The commands that the server starts its children with. Nobody types them; they want their settings on stdin."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from paddock.jobs import local


@click.command("run-job", hidden=True)
@click.argument("job_id")
@click.option("--attempt", type=int, required=True)
def run_job(job_id: str, attempt: int) -> None:
    """Do one attempt at a job (started by the worker)."""
    from paddock import runners

    sys.exit(runners.run_job(local.read_settings(), job_id, attempt))


@click.command("wait-for-job", hidden=True)
def wait_for_job() -> None:
    """Do one attempt at the job that the worker will name (started by it ahead of the job)."""
    from paddock import runners

    sys.exit(runners.run_job(*local.wait_for_job(runners.make_ready)))


@click.command("train-worker", hidden=True)
@click.argument("job_id")
@click.option("--attempt", type=int, required=True)
@click.option("--rank", type=int, required=True)
@click.option("--meeting", type=Path, required=True)
def train_worker(job_id: str, attempt: int, rank: int, meeting: Path) -> None:
    """Compute along in a training job (started by the job's own process)."""
    from paddock import runners

    sys.exit(runners.train_along(local.read_settings(), job_id, attempt, rank=rank, meeting=meeting))


@click.command("run-engine", hidden=True)
@click.option("--socket", "socket_descriptor", type=int, required=True)
def run_engine(socket_descriptor: int) -> None:
    """Serve local models on a listening socket (started by the server)."""
    from paddock.inference import engine_process

    engine_process.run(local.read_settings(), socket_descriptor)

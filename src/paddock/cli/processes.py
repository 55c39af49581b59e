"""The commands that the server starts its children with. Nobody types them; they want their settings on stdin."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click

from paddock.jobs import fork_server, local


@click.command("run-job", hidden=True)
@click.argument("job_id")
@click.option("--attempt", type=int, required=True)
def run_job(job_id: str, attempt: int) -> None:
    """Do one attempt at a job (started by the worker)."""
    from paddock import runners

    sys.exit(runners.run_job(local.read_settings(), job_id, attempt))


@click.command("fork-jobs", hidden=True)
@click.option("--channel", "channel_descriptor", type=int, required=True)
def fork_jobs(channel_descriptor: int) -> None:
    """Fork the processes of jobs (started by the worker); in them, do one attempt at a job."""
    from paddock import runners

    channel = socket.socket(fileno=channel_descriptor)
    sys.exit(runners.run_job(*fork_server.fork_jobs(channel, runners.make_ready)))


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

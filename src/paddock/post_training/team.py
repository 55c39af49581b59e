"""The processes that train one job: usually one; or several workers, which share each batch and hold a part of the weights.

All of them run the same recipe over the same rows. The first is the job's own process, which alone writes; it starts the
others, and they end with it. What they must agree on, or sum up, goes through a `Team`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from paddock.errors import PaddockError
from paddock.jobs.job import Job
from paddock.jobs.local import start_process
from paddock.settings import Settings

log = logging.getLogger("paddock.training")

_TIMEOUT = timedelta(hours=1)
_START_SECONDS = 300.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Team:
    """This process among the `size` that train a job, by its number, `rank`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    def share(self, numbers: Sequence[int]) -> list[int]:
        """What this worker does of a batch: perhaps nothing."""
        return list(numbers[self.rank :: self.size])

    def totals(self, *values: float) -> list[float]:
        """The sums of what each worker gives."""
        if self.is_alone:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(total) for total in sums]

    def table(self, mine: torch.Tensor) -> torch.Tensor:
        """The sum of the tables that each worker gives."""
        if self.is_alone:
            return mine
        sums = mine.to(self.device)
        dist.all_reduce(sums)
        return sums.to(mine.device)

    def told(self, value: bool) -> bool:
        """What the first worker says: time and signals come to each at another step."""
        if self.is_alone:
            return value
        said = torch.tensor([value], dtype=torch.uint8, device=self.device)
        dist.broadcast(said, 0)
        return bool(said.item())

    def gather(self, value: Any) -> list[Any]:
        """What each worker gives, by rank."""
        if self.is_alone:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered


@contextmanager
def gathered(settings: Settings, job: Job, device: torch.device, log_file: Path) -> Iterator[Team]:
    """In the job's own process: the team, whose other workers are started here and end here."""
    size = settings.training_workers
    if size == 1:
        yield Team(0, 1, device)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        arguments = ["train-worker", "--attempt", str(job.attempt), "--meeting", str(meeting)]
        others = [
            start_process([*arguments, "--rank", str(rank), "--", job.job_id], settings, log_file)
            for rank in range(1, size)
        ]
        try:
            with joined(0, settings, device, meeting, others) as team:
                yield team
        finally:
            # Whatever is written, this process has written it.
            for other in others:
                other.kill()
                other.wait()
                assert other.stdin is not None
                other.stdin.close()


@contextmanager
def joined(
    rank: int,
    settings: Settings,
    device: torch.device,
    meeting: Path,
    others: Sequence[subprocess.Popen[bytes]] = (),
) -> Iterator[Team]:
    """The team as worker `rank` sees it, which meets the others by a file. Raises `PaddockError` if one of `others`, which
    this process started, does not come."""
    size = settings.training_workers
    if device.type == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    # All are on this machine, and nobody else need see what they say.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(meeting), size)
    store.set(f"worker {rank}", "here")
    _wait_for_all(store, size, others)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    log.info("%d workers train together.", size)
    try:
        yield Team(rank, size, device)
    finally:
        dist.destroy_process_group()


def _wait_for_all(store: Any, size: int, others: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not store.check([f"worker {rank}" for rank in range(size)]):
        ended = [other.returncode for other in others if other.poll() is not None]
        if ended or time.monotonic() > deadline:
            how = f"ended with exit code {ended[0]}" if ended else "did not come in time"
            raise PaddockError(f"A worker that this job started {how} before training began; see the job's log.")
        time.sleep(_POLL_SECONDS)

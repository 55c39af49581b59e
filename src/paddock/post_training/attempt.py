"""One attempt at a training job: what its recipe, loop, checkpoints and resume points share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from paddock.datasets.store import DatasetStore
from paddock.jobs.progress import Progress
from paddock.post_training.config import Config
from paddock.post_training.rows import Row
from paddock.post_training.source import Source
from paddock.post_training.store import CheckpointStore
from paddock.post_training.team import Team


@dataclass(frozen=True)
class Attempt:
    """`folder` holds the files of the base model that `source` names."""

    progress: Progress
    config: Config
    source: Source
    folder: Path
    datasets: DatasetStore
    checkpoints: CheckpointStore
    team: Team

    @property
    def device(self) -> torch.device:
        return self.team.device

    @property
    def job_id(self) -> str:
        return self.progress.job.job_id

    @property
    def scratch(self) -> Path:
        """A folder for what need not outlive the process."""
        return self.checkpoints.job_folder(self.job_id)

    def rows(self, dataset_id: str) -> Iterator[tuple[int, Row]]:
        """The rows of a dataset, in the version that the job was submitted with, and their indices."""
        for index, row in enumerate(self.datasets.read(self.progress.job.reads_dataset(dataset_id))):
            self.progress.check_stop()
            yield index, row

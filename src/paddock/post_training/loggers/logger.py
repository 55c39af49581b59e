"""What a logger is to the mirror, and what it is told of the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from paddock.settings import Settings
from paddock.storage.data_dir import folder_name

Ending = Literal["completed", "failed", "stopped"]
"""`stopped`: the job goes on later, and so does its run."""


class Point(NamedTuple):
    """Values of one step, and when they came (seconds since 1970)."""

    step: int
    at: float
    values: dict[str, float]


@dataclass(frozen=True)
class Run:
    """What a logger is told of a job. `folder` is where the loggers of this server keep files."""

    job_id: str
    name: str
    project: str
    tags: dict[str, str]
    params: dict[str, Any]
    folder: Path
    settings: Settings

    @property
    def key(self) -> str:
        """An id that any logger takes, always the same for this job."""
        return folder_name(self.job_id)


class Logger(Protocol):
    """An open run of a logger. Whatever its methods raise, training goes on."""

    sent: dict[str, int]
    """The last step that it has of each series, also from earlier attempts at the job."""

    def send(self, points: Sequence[Point]) -> None:
        """Take in points, in order of steps; `sent` grows by them when this returns."""

    def close(self, ending: Ending) -> None:
        """The attempt is over."""


def readable_folder(name: str, key: str) -> str:
    """A folder's name that a person recognises: a client's words as far as they are harmless, and our own key."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40]
    return f"{words}-{key[:8]}" if words else key[:8]

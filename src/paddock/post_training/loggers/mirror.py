"""Forwards a job's series from the database to its loggers, beside the training and never in its way.

What is sent is what the database holds for good, and a logger says what it has: so after a kill no step is there twice and
none is missing. A logger that fails is left alone for a while and then given what it lacks; training takes no notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paddock.jobs.job import Job
from paddock.jobs.progress import StopRequestedError
from paddock.jobs.store import JobStore
from paddock.post_training.logger_config import LoggerConfig
from paddock.post_training.loggers.logger import Ending, Logger, Point, Run
from paddock.post_training.loggers.mlflow import MLflow
from paddock.post_training.loggers.tensorboard import TensorBoard
from paddock.post_training.loggers.trackio import Trackio
from paddock.post_training.loggers.wandb import Wandb
from paddock.settings import Settings

log = logging.getLogger("paddock.training")

LOGGERS: dict[str, Callable[[Run], Logger]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": Wandb,
    "trackio": Trackio,
}

_FORWARD_EVERY_SECONDS = 1.0
_LEFT_ALONE_SECONDS = 30.0
_LAST_WORD_SECONDS = 15.0
"""How long the end of a job waits for its loggers."""


@contextmanager
def mirrored(job: Job, jobs: JobStore, settings: Settings) -> Iterator[None]:
    """While inside, the job's series go to the loggers that its request names."""
    config = LoggerConfig.model_validate(job.request["logger_config"])
    if not config.loggers:
        yield
        return
    run = Run(
        job_id=job.job_id,
        name=config.run_name or job.job_id,
        project=config.project,
        tags=config.tags,
        params=dict(_flat(job.request)),
        folder=(settings.logger_dir or settings.data_dir / "loggers").expanduser().resolve(),
        settings=settings,
    )
    mirror = Mirror(jobs, run, {name: LOGGERS[name] for name in config.loggers})
    mirror.start()
    ending: Ending = "failed"
    try:
        yield
        ending = "completed"
    except StopRequestedError:
        ending = "stopped"
        raise
    finally:
        mirror.stop(ending)


class Mirror:
    """A thread that reads the series and sends what is new."""

    def __init__(self, jobs: JobStore, run: Run, loggers: dict[str, Callable[[Run], Logger]]) -> None:
        self._jobs = jobs
        self._run = run
        self._channels = [_Channel(name, open_logger, run) for name, open_logger in loggers.items()]
        self._stopping = threading.Event()
        self._ending: Ending = "failed"
        self._thread = threading.Thread(target=self._forward_until_stopped, name="loggers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, ending: Ending) -> None:
        """Send the rest, and close the loggers; those that take too long are left behind."""
        self._ending = ending
        self._stopping.set()
        self._thread.join(_LAST_WORD_SECONDS)
        if self._thread.is_alive():
            log.warning("The loggers did not end in %d seconds; the job does without them.", _LAST_WORD_SECONDS)

    def _forward_until_stopped(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(_FORWARD_EVERY_SECONDS)
            for channel in self._channels:
                channel.forward(self._points)
        for channel in self._channels:
            channel.close(self._ending)

    def _points(self, after: int) -> list[Point]:
        return [
            Point(point.pop("step"), point.pop("at"), _numbers(point))
            for point in self._jobs.metrics(self._run.job_id, after=after)
        ]


class _Channel:
    """One logger: opened when it can be, sent what it lacks, left alone for a while when it fails."""

    def __init__(self, name: str, open_logger: Callable[[Run], Logger], run: Run) -> None:
        self._name = name
        self._open = open_logger
        self._run = run
        self._logger: Logger | None = None
        self._last_step = 0
        self._try_again_at = 0.0
        self._has_failed = False

    def forward(self, points_after: Callable[[int], Sequence[Point]]) -> None:
        """Send what is new since the last time."""
        if time.monotonic() < self._try_again_at:
            return
        try:
            if self._logger is None:
                self._logger = self._open(self._run)
                self._last_step = 0
            # The last step again: its validation comes later than its loss.
            self._send(self._logger, points_after(self._last_step - 1))
        except Exception as error:
            if not self._has_failed:
                log.warning("The logger %s fails, and the training goes on without it: %r", self._name, error)
            self._has_failed = True
            self._logger = None
            self._try_again_at = time.monotonic() + _LEFT_ALONE_SECONDS
            return
        if self._has_failed:
            log.warning("The logger %s is back, and has what it missed.", self._name)
            self._has_failed = False

    def _send(self, logger: Logger, points: Sequence[Point]) -> None:
        new = []
        for point in points:
            values = {name: value for name, value in point.values.items() if point.step > logger.sent.get(name, -1)}
            if values:
                new.append(Point(point.step, point.at, values))
        if new:
            logger.send(new)
            for point in new:
                logger.sent.update(dict.fromkeys(point.values, point.step))
        if points:
            self._last_step = points[-1].step

    def close(self, ending: Ending) -> None:
        if self._logger is None:
            return
        try:
            self._logger.close(ending)
        except Exception as error:
            log.warning("The logger %s could not be closed: %r", self._name, error)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _flat(request: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The request's fields as names with dots between them, without those that say where it is logged."""
    for name, value in request.items():
        if prefix + name in ("logger_config", "hyperparam_search_config"):
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value

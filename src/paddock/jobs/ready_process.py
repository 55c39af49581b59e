"""A process that is started ahead of the job which it will do: Python and the libraries take longer to start than a short
evaluation to run.

One is kept for a while after a job was started. A server that has no jobs to do keeps none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from paddock.jobs import local
from paddock.jobs.job import Job
from paddock.jobs.local import JobProcess
from paddock.settings import Settings

_KEPT_SECONDS = 600.0
_DELAY_SECONDS = 1.0
"""So long after a job was started the next process is: the job's own start comes first."""


class ReadyProcess:
    """Starts the processes of jobs, one of them ahead."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._job_started_at: float | None = None

    def start_job(self, job: Job, settings: Settings, log_file: Path) -> JobProcess:
        """The process of one attempt at a job: the one that is ready, or a new one."""
        self._job_started_at = time.monotonic()
        process = self._take()
        if process is None:
            return JobProcess(job, settings, log_file)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        local.tell(process, json.dumps([job.job_id, job.attempt, str(log_file)]).encode())
        return JobProcess(job, settings, log_file, process)

    def tend(self) -> None:
        """Start the next process, or let it go, as it is time. To be called now and then."""
        if self._job_started_at is None or not self._settings.ready_job_process:
            return
        age = time.monotonic() - self._job_started_at
        if age > _KEPT_SECONDS:
            self.close()
        elif age > _DELAY_SECONDS and self._process is None:
            self._process = local.start_process(["wait-for-job"], self._settings, log_file=None)

    def close(self) -> None:
        """End the process that waits."""
        process = self._take()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            local.release(process)
        self._job_started_at = None

    def _take(self) -> subprocess.Popen[bytes] | None:
        """The process that waits, if it lives; it waits here no longer."""
        process, self._process = self._process, None
        if process is not None and process.poll() is not None:
            local.release(process)
            return None
        return process

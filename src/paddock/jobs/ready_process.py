"""A process that is started ahead of the job which it will do: Python and the libraries take longer to start than a short
evaluation to run.

One is kept for a while after the last job, while none runs: what runs needs the processor and the memory itself. A server
that has no jobs to do keeps none.
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


class ReadyProcess:
    """Starts the processes of jobs, one of them ahead."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._used_at: float | None = None

    def start_job(self, job: Job, settings: Settings, log_file: Path) -> JobProcess:
        """The process of one attempt at a job: the one that is ready, or a new one."""
        self._used_at = time.monotonic()
        # Here and not in the process: where there is no room for it, the worker is to know.
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.touch()
        process = self._take()
        if process is None:
            return JobProcess(job, settings, log_file)
        local.tell(process, json.dumps([job.job_id, job.attempt, str(log_file)]).encode())
        return JobProcess(job, settings, log_file, process)

    def tend(self, *, is_idle: bool) -> None:
        """Start the next process, if no job runs, or let it go, as it is time. To be called now and then."""
        if self._used_at is None or not self._settings.ready_job_process:
            return
        if not is_idle:
            self._used_at = time.monotonic()
        elif time.monotonic() - self._used_at > _KEPT_SECONDS:
            self.close()
        elif self._process is None:
            self._process = local.start_process(["wait-for-job"], self._settings, log_file=None)

    def close(self) -> None:
        """End the process that waits."""
        process = self._take()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            local.release(process)
        self._used_at = None

    def _take(self) -> subprocess.Popen[bytes] | None:
        """The process that waits, if it lives; it waits here no longer."""
        process, self._process = self._process, None
        if process is not None and process.poll() is not None:
            local.release(process)
            return None
        return process

"""The worker: a thread that claims scheduled jobs, gives each its process, and sees to it that the database and the
processes agree. What a job does is not its business."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from paddock.errors import LostLeaseError, NoSpaceError
from paddock.jobs import failures, states
from paddock.jobs.fork_server import ForkServer
from paddock.jobs.job import Job
from paddock.jobs.local import EXIT_NO_SPACE, EXIT_STOPPED, JobProcess
from paddock.jobs.store import JobStore
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.jobs")

_POLL_SECONDS = 0.2
_POLL_ENDING_SECONDS = 0.02
_STOP_SECONDS = 10.0


class Worker:
    """Runs jobs as long as the server lives."""

    def __init__(
        self,
        settings: Settings,
        data_dir: DataDir,
        jobs: JobStore,
        start_process: Callable[[Job, Settings, Path], JobProcess] | None = None,
    ) -> None:
        self.worker_id = uuid.uuid4().hex
        self._settings = settings
        self._data_dir = data_dir
        self._jobs = jobs
        self._fork_server = ForkServer(settings)
        self._start_process = start_process or self._fork_server.start_job
        self._running: list[JobProcess] = []
        self._renewed_at = 0.0
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now: a job was submitted or cancelled."""
        self._wake.set()

    def stop(self) -> None:
        """Ask running jobs to leave their work resumable, hand them back, and return once no process is left."""
        self._stopping = True
        self._wake.set()
        self._thread.join(self._settings.cancel_grace_seconds + _STOP_SECONDS)
        # Left over where the database does not answer; the next start finds their jobs without a worker.
        for process in self._running:
            process.kill()

    def _run(self) -> None:
        while not (self._stopping and not self._running):
            try:
                self.tend()
            except NoSpaceError:
                log.error("The disk is full: what becomes of jobs is noted once there is room.")
                time.sleep(1)
            except Exception:  # the database may be away for a while; jobs and their processes are still there
                log.exception("The worker could not look after its jobs; it tries again.")
                time.sleep(1)
            is_ending = any(process.is_ending for process in self._running)
            self._wake.wait(_POLL_ENDING_SECONDS if self._stopping or is_ending else _POLL_SECONDS)
            self._wake.clear()
        self._fork_server.close()

    def tend(self) -> None:
        """Look after everything once."""
        self._renew_leases()
        for process in list(self._running):
            self._tend_process(process)
        if not self._stopping:
            self._recover()
            self._claim()
            self._fork_server.tend(is_idle=not self._running)

    def _renew_leases(self) -> None:
        if not self._running or time.monotonic() - self._renewed_at < self._settings.lease_seconds / 3:
            return
        with self._jobs.database.write() as connection:
            states.renew(
                connection,
                self._jobs.database.now(),
                worker_id=self.worker_id,
                lease_seconds=self._settings.lease_seconds,
                job_ids=[process.job_id for process in self._running],
            )
        self._renewed_at = time.monotonic()

    def _tend_process(self, process: JobProcess) -> None:
        if process.exit_code is None:
            if self._stopping or process.is_ending or not self._jobs.is_live(process.job_id, process.attempt):
                process.ask_to_stop(cancelled=not self._jobs.is_live(process.job_id, process.attempt))
            return
        process.reap()
        # None of these changes anything where the job ended properly or was cancelled.
        if process.exit_code == EXIT_NO_SPACE:
            self._fail_without_space(process.job_id, process.attempt, process.log_tail)
        else:
            self._give_back(process)
        self._running.remove(process)

    def _give_back(self, process: JobProcess) -> None:
        """The process is gone: its job waits again, or has failed where that happened too often."""
        database = self._jobs.database
        with database.write() as connection:
            now, job_id, attempt = database.now(), process.job_id, process.attempt
            if self._stopping or process.exit_code == EXIT_STOPPED:
                states.hand_back(connection, now, job_id, attempt)
                return
            states.lose(
                connection,
                now,
                job_id,
                attempt,
                max_lost=self._settings.max_lost_attempts,
                reason=process.ending(),
                log_tail=process.log_tail,
            )

    def _recover(self) -> None:
        """Schedule jobs again that nobody runs. On SQLite this server is the only one, so every other is gone."""
        database = self._jobs.database
        held = [(process.job_id, process.attempt) for process in self._running]
        for job_id, attempt in self._jobs.lost(worker_id=self.worker_id, held=held, alone=database.is_sqlite):
            log.info("Job %s lost its worker in attempt %d.", job_id, attempt)
            with database.write() as connection:
                states.lose(
                    connection,
                    database.now(),
                    job_id,
                    attempt,
                    max_lost=self._settings.max_lost_attempts,
                    reason="the server that ran it is gone.",
                    finder_id=None if database.is_sqlite else self.worker_id,
                )

    def _claim(self) -> None:
        self._claim_some(coordinators=False)
        self._claim_some(coordinators=True)

    def _claim_some(self, *, coordinators: bool) -> None:
        """Fill the places that are free. Those of coordinators are counted apart: they wait for the other jobs."""
        settings = self._settings
        while True:
            running = Counter(p.kind for p in self._running if (p.kind in states.COORDINATORS) == coordinators)
            if running.total() >= settings.max_running_jobs:
                return
            full = [kind for kind, most in settings.max_running_jobs_of_kind.items() if running[kind] >= most]
            job = self._jobs.claim(
                worker_id=self.worker_id,
                lease_seconds=settings.lease_seconds,
                full_kinds=full,
                coordinators=coordinators,
            )
            if job is None:
                return
            # A process that cannot be started leaves the job to `_recover`, unless it would be no better then.
            try:
                process = self._start_process(job, settings, self._data_dir.log_file(job.job_id, job.attempt))
            except OSError as error:
                if failures.describe(error) != failures.NO_SPACE:
                    raise
                self._fail_without_space(job.job_id, job.attempt)
                continue
            log.info("Job %s (%s) runs as process %d, attempt %d.", job.job_id, job.kind, process.pid, job.attempt)
            self._running.append(process)

    def _fail_without_space(self, job_id: str, attempt: int, log_tail: str | None = None) -> None:
        """Note that the disk was full, unless the attempt is over already."""
        database = self._jobs.database
        failure = failures.NO_SPACE
        with database.write() as connection, contextlib.suppress(LostLeaseError):
            states.fail(
                connection,
                database.now(),
                job_id,
                attempt,
                failure.reason,
                retryable=failure.retryable,
                log_tail=log_tail,
            )

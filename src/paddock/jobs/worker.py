"""The worker: a thread that claims scheduled jobs, gives each its process, and sees to it that the database and the
processes agree. What a job does is not its business."""

from __future__ import annotations

import logging
import threading
import time
import uuid

from paddock.jobs import states
from paddock.jobs.local import EXIT_STOPPED, JobProcess
from paddock.jobs.store import JobStore
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.jobs")

_POLL_SECONDS = 0.2


class Worker:
    """Runs jobs as long as the server lives."""

    def __init__(self, settings: Settings, data_dir: DataDir, jobs: JobStore) -> None:
        self.worker_id = uuid.uuid4().hex
        self._settings = settings
        self._data_dir = data_dir
        self._jobs = jobs
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
        self._thread.join()

    def _run(self) -> None:
        while not (self._stopping and not self._running):
            try:
                self._tend()
            except Exception:  # the database may be away for a while; jobs and their processes are still there
                log.exception("The worker could not look after its jobs; it tries again.")
                time.sleep(1)
            self._wake.wait(0.02 if self._stopping else _POLL_SECONDS)
            self._wake.clear()

    def _tend(self) -> None:
        self._renew_leases()
        for process in list(self._running):
            self._tend_process(process)
        if not self._stopping:
            self._recover()
            self._claim()

    def _renew_leases(self) -> None:
        if time.monotonic() - self._renewed_at < self._settings.lease_seconds / 3:
            return
        with self._jobs.database.write() as connection:
            states.renew(
                connection,
                self._jobs.database.now(),
                worker_id=self.worker_id,
                lease_seconds=self._settings.lease_seconds,
            )
        self._renewed_at = time.monotonic()

    def _tend_process(self, process: JobProcess) -> None:
        if process.exit_code is None:
            if self._stopping or not self._jobs.is_live(process.job_id, process.attempt):
                process.ask_to_stop()
            return
        process.reap()
        database = self._jobs.database
        with database.write() as connection:
            # Both change nothing where the job ended properly or was cancelled.
            if self._stopping or process.exit_code == EXIT_STOPPED:
                states.hand_back(connection, database.now(), process.job_id, process.attempt)
            else:
                states.lose(
                    connection,
                    database.now(),
                    process.job_id,
                    process.attempt,
                    max_lost=self._settings.max_lost_attempts,
                    reason=process.ending(),
                )
        self._running.remove(process)

    def _recover(self) -> None:
        """Schedule jobs again whose worker is gone. On SQLite this server is the only one, so every other is gone."""
        database = self._jobs.database
        for job_id, attempt in self._jobs.lost(live_worker_id=self.worker_id, alone=database.is_sqlite):
            log.info("Job %s lost its worker in attempt %d.", job_id, attempt)
            with database.write() as connection:
                states.lose(
                    connection,
                    database.now(),
                    job_id,
                    attempt,
                    max_lost=self._settings.max_lost_attempts,
                    reason="the server that ran it is gone.",
                )

    def _claim(self) -> None:
        self._claim_some(coordinators=False)
        self._claim_some(coordinators=True)

    def _claim_some(self, *, coordinators: bool) -> None:
        """Fill the places that are free. Those of coordinators are counted apart: they wait for the other jobs."""
        while sum(p.is_coordinator == coordinators for p in self._running) < self._settings.max_running_jobs:
            job = self._jobs.claim(
                worker_id=self.worker_id, lease_seconds=self._settings.lease_seconds, coordinators=coordinators
            )
            if job is None:
                return
            log_file = self._data_dir.log_file(job.job_id, job.attempt)
            process = JobProcess(job.job_id, job.attempt, self._settings, log_file, is_coordinator=coordinators)
            log.info("Job %s (%s) runs as process %d, attempt %d.", job.job_id, job.kind, process.pid, job.attempt)
            self._running.append(process)

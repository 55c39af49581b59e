"""Job kind → the function that does it, and the frame around it in the job's own process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from paddock import wiring
from paddock.errors import LostLeaseError, NoSpaceError
from paddock.jobs import failures, local, states
from paddock.jobs.job import Job
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.settings import Settings
from paddock.wiring import Resources

log = logging.getLogger("paddock.jobs")

Runner = Callable[[Progress, Resources], None]


def _eval(progress: Progress, resources: Resources) -> None:
    from paddock.evaluation import job

    job.run(
        progress,
        resources.datasets,
        resources.evaluation,
        resources.inference,
        is_last_attempt=progress.job.num_retries >= resources.settings.max_job_retries,
    )


def _post_training(progress: Progress, resources: Resources) -> None:
    from paddock.post_training import job

    job.run(progress, resources.settings, resources.datasets, resources.checkpoints, resources.inference)


def _ingest(progress: Progress, resources: Resources) -> None:
    from paddock.datasets import ingest
    from paddock.datasets.sources import Access

    ingest.run(progress, resources.datasets.ingests, Access.of(resources.settings))


def _search(progress: Progress, resources: Resources) -> None:
    from paddock.post_training import search

    search.run(
        progress,
        resources.jobs,
        resources.trials,
        resources.checkpoints,
        resources.inference,
        resources.scores,
    )


RUNNERS: dict[str, Runner] = {
    "eval": _eval,
    "sft": _post_training,
    "dpo": _post_training,
    "search": _search,
    "ingest": _ingest,
}


def make_ready() -> None:
    """Import what an evaluation needs, while there is none yet. What training needs would fill the memory."""
    import aiohttp  # noqa: F401  # to have it in memory

    import paddock.evaluation.job  # noqa: F401  # the same


def run_job(settings: Settings, job_id: str, attempt: int) -> int:
    """Do one attempt at a job, in this process. Returns the process's exit code."""
    local.prepare_process(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    resources = wiring.build(settings)
    job = resources.jobs.get(job_id)
    if job.attempt != attempt or job.status is not states.JobStatus.IN_PROGRESS:
        log.info("Attempt %d of job %s is over before it began.", attempt, job_id)
        return 0
    _leave_out_unused_packages(job)
    progress = Progress(job, resources.jobs)
    local.on_terminate(progress.ask_to_stop)
    local.on_cancel(progress.cancel)
    try:
        # It waited while they were being read, and that may have failed.
        resources.datasets.ingests.check_whole(job.reads)
        RUNNERS[job.kind](progress, resources)
    except StopRequestedError:
        log.info("Stopped as asked; the work so far is kept.")
        return local.EXIT_STOPPED
    except LostLeaseError:
        log.info("This attempt is over: the job was cancelled or given to another process.")
        return 0
    except Exception as error:
        # Not by `traceback`: on a full disk its own lines are the next error.
        log.exception("The job fails.")
        return end_badly(progress, settings, error, resources.data_dir.log_file(job_id, attempt))
    return end_well(progress)


def _leave_out_unused_packages(job: Job) -> None:
    """For this process, which does no other job: not for the function in `RUNNERS`, which may be called for several."""
    if RUNNERS[job.kind] is _post_training:
        from paddock.post_training.job import leave_out_unused_packages

        leave_out_unused_packages(job)


def end_well(progress: Progress) -> int:
    """The work is done: complete the job. Returns the process's exit code."""
    job = progress.job
    try:
        with progress.write() as connection:
            progress.flush_metrics(connection)
            states.complete(connection, progress.database.now(), job.job_id, job.attempt)
    except LostLeaseError:
        log.info("The job was cancelled just before it was done.")
    except NoSpaceError:
        return local.EXIT_NO_SPACE
    return 0


def train_along(settings: Settings, job_id: str, attempt: int, *, rank: int, meeting: Path) -> int:
    """Compute along in a training job's attempt, in this process. Returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    resources = wiring.build(settings)
    job = resources.jobs.get(job_id)
    if job.attempt != attempt:
        return 1
    from paddock.post_training.job import work_along

    _leave_out_unused_packages(job)
    progress = Progress(job, resources.jobs)
    stores = resources.datasets, resources.checkpoints, resources.inference
    try:
        work_along(progress, settings, *stores, rank=rank, meeting=meeting)
    except StopRequestedError:
        return local.EXIT_STOPPED
    return 0


def end_badly(progress: Progress, settings: Settings, error: Exception, log_file: Path) -> int:
    """Note why the job failed, or, where what it needs is only away for now, put it off. Returns the exit code."""
    job, database = progress.job, progress.database
    failure = failures.describe(error)
    try:
        with database.write() as connection:
            now = database.now()
            # An attempt that got something done begins the count anew: there is an end to how often that can be.
            num_retries = 0 if progress.has_advanced else job.num_retries
            if failure.is_passing and num_retries < settings.max_job_retries:
                states.retry(
                    connection,
                    now,
                    job.job_id,
                    job.attempt,
                    failure.reason,
                    delay_seconds=settings.job_retry_seconds * 2**num_retries,
                    num_retries=num_retries + 1,
                )
            else:
                states.fail(
                    connection,
                    now,
                    job.job_id,
                    job.attempt,
                    failure.reason,
                    retryable=failure.retryable,
                    log_tail=local.log_tail(log_file) or None,
                )
    except LostLeaseError:
        log.info("The job was cancelled before its failure could be noted.")
    except NoSpaceError:
        return local.EXIT_NO_SPACE
    return 1

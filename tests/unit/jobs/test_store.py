"""How many jobs may wait, also when many are submitted at once."""

from __future__ import annotations

import threading

import pytest

from paddock.errors import ConflictError, TooManyRequestsError
from paddock.jobs.job import NewJob
from paddock.jobs.store import JobStore
from paddock.storage.database import Database


def test_one_more_than_may_wait_is_refused(database: Database) -> None:
    jobs = JobStore(database, max_scheduled=2)
    for job_id in ("a", "b"):
        jobs.submit(NewJob(job_id, "eval", {"n": 1}))
    with pytest.raises(TooManyRequestsError, match="max_scheduled_jobs") as caught:
        jobs.submit(NewJob("c", "eval", {}))
    assert caught.value.retry_after_seconds >= 1
    assert jobs.find("c") is None
    # The same job again is no more than there is.
    assert jobs.submit(NewJob("a", "eval", {"n": 1})).job_id == "a"
    with pytest.raises(ConflictError):
        jobs.submit(NewJob("a", "eval", {"n": 2}))
    # One that runs, or was cancelled, does not wait.
    assert jobs.claim(worker_id="w", lease_seconds=5) is not None
    jobs.submit(NewJob("c", "sft", {}))
    jobs.cancel("b")
    jobs.submit(NewJob("d", "dpo", {}))
    with pytest.raises(TooManyRequestsError):
        jobs.submit(NewJob("e", "dpo", {}))


def test_jobs_are_counted_by_kind_and_status(database: Database) -> None:
    jobs = JobStore(database)
    assert jobs.counts_by_kind() == {}
    assert jobs.oldest_scheduled_seconds() == 0
    for job_id in ("a", "b", "c"):
        jobs.submit(NewJob(job_id, "eval", {}))
    jobs.cancel("a")
    jobs.claim(worker_id="w", lease_seconds=5)
    counts = jobs.counts_by_kind()
    assert {status: num for (kind, status), num in counts.items() if kind == "eval"} == {
        "scheduled": 1,
        "in_progress": 1,
        "cancelled": 1,
        "completed": 0,
        "failed": 0,
    }
    assert 0 <= jobs.oldest_scheduled_seconds() < 60


def test_submissions_at_the_same_time_do_not_pass_the_bound_together(database: Database) -> None:
    jobs = JobStore(database, max_scheduled=5)
    start = threading.Barrier(16)
    refused: list[str] = []

    def submit(number: int) -> None:
        start.wait(20)
        for attempt in range(2):
            try:
                jobs.submit(NewJob(f"{number}-{attempt}", "eval", {}))
            except TooManyRequestsError:
                refused.append(f"{number}-{attempt}")

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert jobs.counts_by_kind()["eval", "scheduled"] == 5
    assert len(refused) == 27

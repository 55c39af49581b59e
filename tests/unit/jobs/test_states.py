from __future__ import annotations

import pytest
import sqlalchemy as sa

from paddock.errors import ConflictError, LostLeaseError, NotFoundError
from paddock.jobs import report_store, states
from paddock.jobs.job import DatasetVersion, Job, NewJob
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.states import JobStatus
from paddock.jobs.store import JobStore
from paddock.storage.database import Database
from paddock.storage.tables import job_events
from paddock.storage.tables import jobs as jobs_table


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def _started(jobs: JobStore, job_id: str = "a") -> Job:
    jobs.submit(NewJob(job_id, "eval", {"n": 1}))
    job = jobs.claim(worker_id="w", lease_seconds=30)
    assert job is not None
    assert job.job_id == job_id
    return job


def _names(jobs: JobStore, job_id: str = "a") -> list[str]:
    return [event["event"] for event in jobs.events(job_id)]


def test_the_life_of_a_job(jobs: JobStore) -> None:
    submitted = jobs.submit(NewJob("a", "eval", {"n": 1}, "bench", (DatasetVersion("d", 3, 7),)))
    assert (submitted.status, submitted.attempt, submitted.progress) == (JobStatus.SCHEDULED, 0, None)
    job = jobs.claim(worker_id="w", lease_seconds=30)
    assert job is not None
    assert (job.status, job.attempt, job.reads_dataset("d").num_rows) == (JobStatus.IN_PROGRESS, 1, 7)
    assert jobs.claim(worker_id="w", lease_seconds=30) is None
    with jobs.database.write() as connection:
        states.complete(connection, jobs.database.now(), "a", 1)
    done = jobs.get("a")
    assert done.status is JobStatus.COMPLETED
    assert done.ended_at is not None
    assert done.started_at is not None
    assert done.created_at <= done.started_at <= done.ended_at
    assert _names(jobs) == ["submitted", "started", "completed"]


def test_the_same_request_is_the_same_job(jobs: JobStore) -> None:
    first = jobs.submit(NewJob("a", "sft", {"x": 1.5, "y": [None]}))
    assert jobs.submit(NewJob("a", "sft", {"y": [None], "x": 1.5})) == first
    for other in (NewJob("a", "sft", {"x": 2}), NewJob("a", "dpo", {"x": 1.5, "y": [None]})):
        with pytest.raises(ConflictError):
            jobs.submit(other)
    assert _names(jobs) == ["submitted"]


def test_jobs_run_in_the_order_of_submission(jobs: JobStore) -> None:
    for job_id in ("b", "a", "c"):
        jobs.submit(NewJob(job_id, "eval", {}))
    claimed = [jobs.claim(worker_id="w", lease_seconds=30) for _ in range(3)]
    assert [job.job_id for job in claimed if job] == ["b", "a", "c"]
    assert [job.job_id for job in jobs.list()] == ["c", "a", "b"]
    assert [job.job_id for job in jobs.list(limit=1, before=3)] == ["a"]
    assert jobs.list(status=JobStatus.SCHEDULED) == []


def test_cancel_wins_over_a_late_finish(jobs: JobStore) -> None:
    job = _started(jobs)
    assert jobs.cancel("a").status is JobStatus.CANCELLED
    assert jobs.cancel("a").status is JobStatus.CANCELLED
    for end in (
        lambda c: states.complete(c, jobs.database.now(), "a", job.attempt),
        lambda c: states.fail(c, jobs.database.now(), "a", job.attempt, "late"),
    ):
        with pytest.raises(LostLeaseError), jobs.database.write() as connection:
            end(connection)
    assert jobs.get("a").status is JobStatus.CANCELLED
    assert _names(jobs) == ["submitted", "started", "cancelled"]


def test_what_is_over_cannot_be_cancelled(jobs: JobStore) -> None:
    job = _started(jobs)
    with jobs.database.write() as connection:
        states.fail(connection, jobs.database.now(), "a", job.attempt, "no such column")
    with pytest.raises(ConflictError, match="failed"):
        jobs.cancel("a")
    assert jobs.get("a").error == "no such column"
    with pytest.raises(NotFoundError):
        jobs.cancel("unknown")


def test_a_process_thought_dead_cannot_write(jobs: JobStore) -> None:
    progress = Progress(_started(jobs), jobs)
    with jobs.database.write() as connection:
        states.lose(connection, jobs.database.now(), "a", 1, max_lost=3, reason="silent")
    successor = jobs.claim(worker_id="w2", lease_seconds=30)
    assert successor is not None
    assert successor.attempt == 2
    with pytest.raises(LostLeaseError), progress.write():
        raise AssertionError("the block must not be entered")
    with pytest.raises(LostLeaseError):
        progress.report(1, 2, "rows", now=True)
    with jobs.database.write() as connection:
        # Losing the old attempt again must not touch the new one.
        states.lose(connection, jobs.database.now(), "a", 1, max_lost=3, reason="again")
    assert jobs.get("a").status is JobStatus.IN_PROGRESS


def test_a_job_that_is_lost_too_often_fails_with_its_history(jobs: JobStore) -> None:
    jobs.submit(NewJob("a", "eval", {}))
    for attempt in (1, 2, 3):
        job = jobs.claim(worker_id="w", lease_seconds=30)
        assert job is not None
        assert job.attempt == attempt
        with jobs.database.write() as connection:
            states.lose(connection, jobs.database.now(), "a", attempt, max_lost=3, reason=f"signal {attempt}")
    failed = jobs.get("a")
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert "3 times" in failed.error
    assert "signal 3" in failed.error
    assert _names(jobs) == ["submitted", "started", "lost", "started", "lost", "started", "failed"]


def test_handing_back_counts_no_loss(jobs: JobStore) -> None:
    _started(jobs)
    with jobs.database.write() as connection:
        states.hand_back(connection, jobs.database.now(), "a", 1)
    job = jobs.get("a")
    assert (job.status, job.num_lost) == (JobStatus.SCHEDULED, 0)


def test_a_lease_that_ran_out_is_found(jobs: JobStore) -> None:
    _started(jobs)
    assert jobs.lost(worker_id="w2", held=[], alone=False) == []
    assert jobs.lost(worker_id="w2", held=[], alone=True) == [("a", 1)]
    assert jobs.lost(worker_id="w", held=[("a", 1)], alone=True) == []
    # Claimed, and no process came of it: nobody else would find that, for the worker lives.
    assert jobs.lost(worker_id="w", held=[], alone=False) == [("a", 1)]
    with jobs.database.write() as connection:
        states.renew(connection, jobs.database.now(), worker_id="w", lease_seconds=-1, job_ids=["a"])
    assert jobs.lost(worker_id="w2", held=[], alone=False) == [("a", 1)]
    with jobs.database.write() as connection:
        states.renew(connection, jobs.database.now(), worker_id="w", lease_seconds=30, job_ids=["a"])
        # The worker was only late: its job is not taken from it.
        states.lose(connection, jobs.database.now(), "a", 1, max_lost=3, reason="late", finder_id="w2")
    assert jobs.get("a").status is JobStatus.IN_PROGRESS


@pytest.mark.parametrize(
    "impossible",
    [
        {"status": "completed"},
        {"status": "in_progress"},
        {"status": "failed", "ended_at": 1.0},
        {"status": "completed", "ended_at": 2.0},
        {"status": "failed", "ended_at": 2.0, "error": "why", "attempt": 1, "started_at": 1.0},
        {"status": "paused"},
        {"worker_id": "w"},
        {"error": "why"},
        {"log_tail": "why"},
        {"attempt": 1},
        {"started_at": 1.0},
        {"num_lost": 1},
        {"num_retries": -1},
        {"status": "cancelled", "ended_at": 2.0, "not_before": 3.0},
    ],
)
def test_impossible_states_cannot_be_stored(jobs: JobStore, impossible: dict[str, object]) -> None:
    jobs.submit(NewJob("a", "eval", {}))
    with pytest.raises(sa.exc.IntegrityError), jobs.database.write() as connection:
        connection.execute(sa.update(jobs_table).values(**impossible))


@pytest.mark.parametrize("revived", [{"status": "scheduled", "ended_at": None}, {"attempt": 0, "started_at": None}])
def test_what_has_ended_stays_so(jobs: JobStore, revived: dict[str, object]) -> None:
    job = _started(jobs)
    with jobs.database.write() as connection:
        states.complete(connection, jobs.database.now(), "a", job.attempt)
    with (
        pytest.raises(sa.exc.IntegrityError, match="a job that has ended stays so"),
        jobs.database.write() as connection,
    ):
        connection.execute(sa.update(jobs_table).values(**revived))
    assert jobs.get("a").status is JobStatus.COMPLETED


def test_history_is_only_added_to_and_ends_once(jobs: JobStore) -> None:
    _started(jobs)
    jobs.cancel("a")
    with pytest.raises(sa.exc.IntegrityError, match="only ever added to"), jobs.database.write() as connection:
        connection.execute(sa.update(job_events).values(event="completed"))
    for event in ("completed", "started"):
        with pytest.raises(sa.exc.IntegrityError), jobs.database.write() as connection:
            connection.execute(sa.insert(job_events).values(job_id="a", attempt=1, at=1.0, event=event))
    assert _names(jobs) == ["submitted", "started", "cancelled"]
    first = jobs.events("a")[0]["event_id"]
    assert [event["event"] for event in jobs.events("a", after=first)] == ["started", "cancelled"]


def test_the_higher_priority_goes_first(jobs: JobStore) -> None:
    for job_id, priority in (("a", 0), ("b", 0), ("c", 5), ("d", -1)):
        jobs.submit(NewJob(job_id, "eval", {}, priority=priority))
    assert jobs.prioritize("b", 5).priority == 5
    claimed = [jobs.claim(worker_id="w", lease_seconds=30) for _ in range(4)]
    assert [job.job_id for job in claimed if job] == ["b", "c", "a", "d"]
    with pytest.raises(ConflictError, match="does not wait"):
        jobs.prioritize("a", 1)
    with pytest.raises(NotFoundError):
        jobs.prioritize("unknown", 1)


def test_a_kind_that_is_full_waits(jobs: JobStore) -> None:
    for job_id, kind in (("a", "sft"), ("b", "eval")):
        jobs.submit(NewJob(job_id, kind, {}))
    job = jobs.claim(worker_id="w", lease_seconds=30, full_kinds=["sft"])
    assert job is not None
    assert job.job_id == "b"
    assert jobs.claim(worker_id="w", lease_seconds=30, full_kinds=["sft"]) is None


def test_a_job_that_is_put_off_waits_and_goes_on(jobs: JobStore) -> None:
    job = _started(jobs)
    with jobs.database.write() as connection:
        states.retry(connection, jobs.database.now(), "a", job.attempt, "No answer.", delay_seconds=30, num_retries=1)
    assert jobs.claim(worker_id="w", lease_seconds=30) is None
    put_off = jobs.get("a")
    assert put_off.put_off == jobs.list()[0].put_off == "No answer. Again in 30 s."
    assert put_off.not_before is not None
    assert (put_off.status, put_off.num_retries, put_off.num_lost) == (JobStatus.SCHEDULED, 1, 0)
    assert jobs.events("a")[-1]["detail"] == "No answer. Again in 30 s."
    with jobs.database.write() as connection:
        connection.execute(sa.update(jobs_table).values(not_before=jobs_table.c.not_before - 31))
    again = jobs.claim(worker_id="w", lease_seconds=30)
    assert again is not None
    assert (again.attempt, again.not_before, again.put_off) == (2, None, None)
    assert jobs.cancel("a").status is JobStatus.CANCELLED


def test_what_is_being_saved_of_a_cancelled_job_still_counts(jobs: JobStore) -> None:
    progress = Progress(_started(jobs), jobs)
    with progress.saving():
        jobs.cancel("a")
        with progress.write() as connection:
            report_store.set_progress(connection, "a", done=1, total=2, unit="steps")
    assert jobs.get("a").progress_done == 1
    with pytest.raises(LostLeaseError), progress.write():
        raise AssertionError("the block must not be entered")
    # A process that was thought dead has no such right: another attempt may be running.
    zombie = Progress(_started(jobs, "b"), jobs)
    with jobs.database.write() as connection:
        states.lose(connection, jobs.database.now(), "b", 1, max_lost=3, reason="silent")
    with zombie.saving(), pytest.raises(LostLeaseError), zombie.write():
        raise AssertionError("the block must not be entered")


def test_progress_and_metrics(jobs: JobStore) -> None:
    progress = Progress(_started(jobs), jobs)
    progress.note_metrics(1, loss=2.0)
    progress.note_metrics(1, lr=0.1)
    progress.note_metrics(2, loss=float("nan"))
    progress.report(2, 10, "steps", now=True)
    assert jobs.get("a").progress == {"done": 2, "total": 10, "unit": "steps"}
    points = [{key: point[key] for key in point if key != "at"} for point in jobs.metrics("a")]
    assert points == [{"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "loss": None}]
    # What is learnt of a step later, such as a validation, joins what is there.
    progress.note_metrics(1, validation_loss=3.0)
    progress.report(3, 10, "steps", now=True)
    assert jobs.metrics("a")[0]["loss"] == 2.0
    assert jobs.metrics("a")[0]["validation_loss"] == 3.0
    # An attempt that goes on from an earlier step does that step again.
    progress.note_metrics(2, loss=1.0)
    progress.report(10, 10, "steps")
    assert [point["loss"] for point in jobs.metrics("a", after=1)] == [1.0]


def test_stopping(jobs: JobStore) -> None:
    progress = Progress(_started(jobs), jobs)
    progress.check_stop()
    progress.ask_to_stop()
    with pytest.raises(StopRequestedError):
        progress.check_stop()


def test_a_job_belongs_to_its_benchmark(jobs: JobStore) -> None:
    jobs.submit(NewJob("a", "eval", {}, "bench"))
    assert jobs.get("a", kinds=["eval"], benchmark_id="bench").job_id == "a"
    for wrong in ({"benchmark_id": "other"}, {"kinds": ["sft"]}):
        with pytest.raises(NotFoundError):
            jobs.get("a", **wrong)


def test_coordinators_are_claimed_apart(jobs: JobStore) -> None:
    """They wait for other jobs, so they must not stand in their way."""
    jobs.submit(NewJob("search", "search", {}))
    jobs.submit(NewJob("trial", "sft", {}, parent_id="search"))
    claimed = jobs.claim(worker_id="w", lease_seconds=30)
    assert claimed is not None
    assert (claimed.job_id, claimed.parent_id) == ("trial", "search")
    assert jobs.claim(worker_id="w", lease_seconds=30) is None
    coordinator = jobs.claim(worker_id="w", lease_seconds=30, coordinators=True)
    assert coordinator is not None
    assert coordinator.job_id == "search"
    assert [job.job_id for job in jobs.list(with_children=False)] == ["search"]


@pytest.mark.parametrize("ending", ["cancelled", "failed", "completed"])
def test_nobody_waits_for_the_children_of_a_job_that_has_ended(jobs: JobStore, ending: str) -> None:
    _started(jobs)
    jobs.submit(NewJob("running", "eval", {}, parent_id="a"))
    jobs.claim(worker_id="w", lease_seconds=30)
    jobs.submit(NewJob("waiting", "eval", {}, parent_id="a"))
    jobs.submit(NewJob("other", "eval", {}))
    with jobs.database.write() as connection:
        if ending == "cancelled":
            states.cancel(connection, jobs.database.now(), "a")
        elif ending == "failed":
            states.fail(connection, jobs.database.now(), "a", 1, "no luck")
        else:
            states.complete(connection, jobs.database.now(), "a", 1)
    assert [jobs.get(job_id).status.value for job_id in ("running", "waiting", "other")] == [
        "cancelled", "cancelled", "scheduled",
    ]  # fmt: skip
    assert _names(jobs, "running") == ["submitted", "started", "cancelled"]

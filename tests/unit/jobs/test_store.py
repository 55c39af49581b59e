"""How many jobs may wait, also when many are submitted at once."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from paddock.errors import ConflictError, TooManyRequestsError
from paddock.jobs.store import JobStore, NewJob
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


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def each_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    url = os.environ.get("PADDOCK_TEST_POSTGRES_URL")
    if url is None:
        pytest.skip("set PADDOCK_TEST_POSTGRES_URL to a database that tests may fill")
    schema = f"test_{uuid.uuid4().hex}"
    plain = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with plain.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
    database = Database(f"{url}?options=-csearch_path%3D{schema}")
    database.migrate()
    yield database
    database.close()
    with plain.begin() as connection:
        connection.execute(sa.schema.DropSchema(schema, cascade=True))
    plain.dispose()


def test_submissions_at_the_same_time_do_not_pass_the_bound_together(each_database: Database) -> None:
    jobs = JobStore(each_database, max_scheduled=5)
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

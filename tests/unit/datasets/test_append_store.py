from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from paddock.datasets import bodies, registration
from paddock.datasets.append_store import Append
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore
from paddock.errors import ConflictError, NoSpaceError, NotFoundError
from paddock.storage.database import Database

ROW = '{"question":"q","answer":"a"}'


@pytest.fixture(autouse=True)
def _two_datasets(datasets: DatasetStore) -> None:
    for dataset_id in (b"a", b"b"):
        body = b'{"dataset_id":"%s","purpose":"eval/question-answer","source":{"type":"rows","rows":[]}}' % dataset_id
        registration.register(datasets, Access(), bodies.parse_registration(body))


def _rows(datasets: DatasetStore, dataset_id: str = "a") -> list[str]:
    return list(datasets.page(datasets.get(dataset_id), 0, 10**9))


@contextmanager
def _commits() -> Iterator[list[int]]:
    """How many transactions that write were committed in the block."""
    count = [0]

    def committed(connection: sa.Connection) -> None:
        count[0] += bool(connection.get_execution_options().get("paddock_writes", True))

    sa.event.listen(sa.Engine, "commit", committed)
    try:
        yield count
    finally:
        sa.event.remove(sa.Engine, "commit", committed)


def _together(datasets: DatasetStore, database: Database, appends: list[Append]) -> list[Future[int]]:
    """Have calls written as one group: they gather behind one that has to wait for this block's lock."""
    with database.write() as connection:
        connection.execute(sa.text("UPDATE datasets SET num_rows = num_rows WHERE dataset_id = 'b'"))
        blocked = datasets.appends.submit(Append("b", [ROW]))
        while datasets.appends._waiting:
            time.sleep(0.001)
        futures = [datasets.appends.submit(append) for append in appends]
    blocked.result(30)
    for future in futures:
        future.exception(30)
    return futures


def test_calls_that_wait_are_committed_together_each_in_one_piece(datasets: DatasetStore, database: Database) -> None:
    calls = [Append("a", [f'{{"question":{call},"answer":{row}}}' for row in range(3)]) for call in range(20)]
    calls.insert(10, Append("b", [ROW, "{}"]))
    with _commits() as commits:
        _together(datasets, database, calls)
    assert commits[0] == 3  # the block's own, the blocked call's, and one for twenty-one calls
    assert _rows(datasets) == [text for call in calls if call.dataset_id == "a" for text in call.texts]
    assert _rows(datasets, "b") == [ROW, ROW, "{}"]
    b = datasets.get("b")
    assert (b.num_rows, b.num_bytes, b.num_incomplete_rows, b.first_incomplete_row) == (3, 2 * len(ROW) + 2, 1, 2)


def test_what_one_call_does_wrong_does_not_reach_the_others(datasets: DatasetStore, database: Database) -> None:
    datasets.append("a", [ROW], idempotency_key="k", body=b"1")
    good, unknown, conflict, again, last = _together(
        datasets,
        database,
        [
            Append("a", ['{"n":1}']),
            Append("nowhere", ['{"n":2}']),
            Append("a", ['{"n":3}'], "k", b"2"),
            Append("a", ['{"n":4}'], "k", b"1"),
            Append("a", ['{"n":5}']),
        ],
    )
    assert isinstance(unknown.exception(), NotFoundError)
    assert isinstance(conflict.exception(), ConflictError)
    assert [future.result() for future in (good, again, last)] == [1, 0, 1]
    assert _rows(datasets) == [ROW, '{"n":1}', '{"n":5}']


def test_one_key_twice_in_a_group_adds_once(datasets: DatasetStore, database: Database) -> None:
    futures = _together(datasets, database, [Append("a", [ROW], "k", b"same") for _ in range(5)])
    assert [future.result() for future in futures] == [1, 0, 0, 0, 0]
    assert _rows(datasets) == [ROW]


def test_a_call_that_nobody_waits_for_any_more_is_not_begun(datasets: DatasetStore, database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE datasets SET num_rows = num_rows WHERE dataset_id = 'a'"))
        first = datasets.appends.submit(Append("a", ['{"n":1}']))
        while datasets.appends._waiting:
            time.sleep(0.001)
        second = datasets.appends.submit(Append("a", ['{"n":2}']))
        assert second.cancel()
        assert not first.cancel()  # under way: it will be there
    datasets.append("a", ['{"n":3}'])
    assert _rows(datasets) == ['{"n":1}', '{"n":3}']


def test_many_writers_lose_nothing(datasets: DatasetStore) -> None:
    def write(client: int) -> None:
        for call in range(20):
            datasets.append("a", [f'{{"client":{client},"call":{call},"row":{row}}}' for row in range(3)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    rows = _rows(datasets)
    assert len(rows) == len(set(rows)) == 8 * 20 * 3
    # A call's rows stand together, and a client's calls in their order.
    assert [row.partition(',"row"')[0] for row in rows[::3]] == [row.partition(',"row"')[0] for row in rows[2::3]]
    for client in range(8):
        mine = [row for row in rows if row.startswith(f'{{"client":{client},')]
        assert mine == [f'{{"client":{client},"call":{c},"row":{r}}}' for c in range(20) for r in range(3)]


def test_the_thread_ends_when_idle_and_comes_back(datasets: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.datasets.append_store._IDLE_SECONDS", 0.05)
    datasets.append("a", [ROW])
    (thread,) = [thread for thread in threading.enumerate() if thread is datasets.appends._thread]
    thread.join(5)
    assert not thread.is_alive()
    datasets.append("a", [ROW])
    assert len(_rows(datasets)) == 2


@contextmanager
def _room_for(num_pages: int, database: Database) -> Iterator[None]:
    """SQLite takes a file that may not grow for a full disk."""
    with database.read() as connection:
        pages = connection.execute(sa.text("PRAGMA page_count")).scalar_one()

    def limit(connection: sa.Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def full(connection: sa.Connection) -> None:
        limit(connection, pages + num_pages)

    def roomy(connection: sa.Connection) -> None:
        limit(connection, 2**30)

    sa.event.listen(sa.Engine, "begin", full)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "begin", full)
        sa.event.listen(sa.Engine, "begin", roomy)
        with database.write():
            pass
        sa.event.remove(sa.Engine, "begin", roomy)


def test_a_full_disk_stores_nothing_of_a_call_and_all_of_those_that_fit(
    datasets: DatasetStore, database: Database
) -> None:
    if not database.is_sqlite:
        with pytest.raises(NoSpaceError), database.write() as connection:
            # What PostgreSQL answers when the disk is full.
            connection.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$"))
        return
    large = Append("a", [f'{{"question":"{"x" * 1000}","answer":{n}}}' for n in range(1000)])
    with _room_for(50, database):
        small, full, other = _together(datasets, database, [Append("a", [ROW]), large, Append("b", [ROW])])
        assert small.exception() is None
        assert other.exception() is None
        assert isinstance(full.exception(), NoSpaceError)
        assert _rows(datasets) == [ROW]
        datasets.append("a", ["{}"])
    datasets.append("a", large.texts)
    assert _rows(datasets) == [ROW, "{}", *large.texts]
    dataset = datasets.get("a")
    assert (dataset.num_rows, dataset.num_incomplete_rows, dataset.first_incomplete_row) == (1002, 1, 1)


def test_a_full_disk_is_507_and_leaves_nothing(datasets: DatasetStore, database: Database, client: TestClient) -> None:
    if not database.is_sqlite:
        return  # its disk is the server's
    rows = [{"question": "x" * 1000, "answer": n} for n in range(2000)]
    body = {"dataset_id": "c", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": rows}}
    with _room_for(50, database):
        for path, sent in (("/v1beta/datasetio/append-rows/a", {"rows": rows}), ("/v1beta/datasets", body)):
            answer = client.post(path, json=sent)
            assert (answer.status_code, answer.json()["title"]) == (507, "Insufficient Storage")
            assert client.get("/v1beta/datasetio/iterrows/a").json()["data"] == []
            assert client.get("/v1beta/datasets/c").status_code == 404
        assert client.post("/v1beta/datasetio/append-rows/a", json={"rows": rows[:1]}).status_code == 200
    assert client.post("/v1beta/datasets", json=body).status_code == 200
    assert datasets.get("c").num_rows == 2000
    assert datasets.get("a").num_rows == 1

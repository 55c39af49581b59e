from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import sqlalchemy as sa

from paddock.datasets import row_store
from paddock.datasets.rows import SourceRows
from paddock.datasets.store import DatasetStore, NewDataset, StoredDataset
from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.jobs.job import NewJob
from paddock.jobs.store import JobStore
from paddock.storage import tables
from paddock.storage.database import Database

ROW = '{"question":"q","answer":"a"}'


def _new(dataset_id: str, texts: list[str], purpose: str = "eval/question-answer") -> NewDataset:
    digest = hashlib.sha256("\n".join([purpose, *texts]).encode()).hexdigest()
    return NewDataset(dataset_id, purpose, "rows", None, '{"note":"mine"}', digest)


def _register(datasets: DatasetStore, dataset_id: str, texts: list[str], *, replace: bool = False) -> StoredDataset:
    return datasets.register(_new(dataset_id, texts), nullcontext(SourceRows(texts)), replace=replace)


def _all(datasets: DatasetStore, dataset_id: str) -> list[str]:
    return list(datasets.page(datasets.get(dataset_id), 0, 10**9))


def _num_stored_rows(database: Database) -> int:
    with database.read() as connection:
        num_rows: int = connection.execute(sa.select(sa.func.count()).select_from(tables.dataset_rows)).scalar_one()
        return num_rows


def test_a_registered_dataset_is_there_with_its_counts(datasets: DatasetStore) -> None:
    texts = [ROW, '{"question":"é"}', '{"answer":1}']
    dataset = _register(datasets, "a/b", texts)
    assert datasets.find("a/b") == datasets.get("a/b") == datasets.get_for("a/b", "/x") == dataset
    assert (dataset.num_rows, dataset.num_bytes) == (3, sum(len(text.encode()) for text in texts))
    assert (dataset.num_incomplete_rows, dataset.first_incomplete_row) == (2, 1)
    assert dataset.metadata == {"note": "mine"}
    assert _all(datasets, "a/b") == texts
    assert list(datasets.read(datasets.version(dataset), 1)) == [{"question": "é"}, {"answer": 1}]


def test_unknown_ids(datasets: DatasetStore) -> None:
    assert datasets.find("x") is None
    with pytest.raises(NotFoundError, match="no dataset 'x'"):
        datasets.get("x")
    with pytest.raises(InvalidRequestError) as raised:
        datasets.get_for("x", "/benchmark/dataset_id")
    assert raised.value.errors[0].pointer == "/benchmark/dataset_id"
    with pytest.raises(NotFoundError):
        datasets.append("x", [ROW])
    with pytest.raises(NotFoundError):
        datasets.remove("x")


def test_the_same_registration_again_is_the_dataset_that_there_is(datasets: DatasetStore) -> None:
    first = _register(datasets, "d", [ROW])
    datasets.append("d", [ROW])
    again = _register(datasets, "d", [ROW])
    assert (again.generation, again.num_rows) == (first.generation, 2)


def test_another_registration_under_the_id_changes_nothing(datasets: DatasetStore, database: Database) -> None:
    first = _register(datasets, "d", [ROW])

    @contextmanager
    def unread() -> Iterator[SourceRows]:
        raise AssertionError("the source of a conflict is not read")
        yield

    with pytest.raises(ConflictError, match="another dataset under the id 'd'"):
        datasets.register(_new("d", ["{}"]), unread())
    assert datasets.get("d") == first
    assert _num_stored_rows(database) == 1


def test_replacing_makes_a_new_generation(datasets: DatasetStore, database: Database) -> None:
    first = _register(datasets, "d", [ROW] * 3)
    second = _register(datasets, "d", ["{}"], replace=True)
    assert second.generation > first.generation
    assert _all(datasets, "d") == ["{}"]
    assert _num_stored_rows(database) == 1
    with pytest.raises(NotFoundError, match="was removed while it was read"):
        next(datasets.read(datasets.version(first)))


def test_a_source_that_breaks_off_leaves_nothing(datasets: DatasetStore, database: Database) -> None:
    def broken() -> Iterator[str]:
        yield from [ROW] * 7000
        raise InvalidRequestError("line 7001")

    with pytest.raises(InvalidRequestError, match="line 7001"):
        datasets.register(_new("d", []), nullcontext(SourceRows(broken())))
    assert datasets.list() == []
    assert _num_stored_rows(database) == 0


def test_rows_that_are_coming_in_are_nobodys_until_all_are_there(datasets: DatasetStore, database: Database) -> None:
    def dying() -> Iterator[str]:
        yield from [ROW] * 7000
        assert _num_stored_rows(database) == 5000  # stored, and other writers have had their turn
        datasets.append("other", [ROW])
        assert datasets.find("d") is None
        raise KeyboardInterrupt  # as if the process ended here: nothing cleans up

    _register(datasets, "other", [])
    with pytest.raises(KeyboardInterrupt):
        datasets.register(_new("d", []), nullcontext(SourceRows(dying())))
    assert [dataset.dataset_id for dataset in datasets.list()] == ["other"]
    assert _num_stored_rows(database) == 5001
    if not database.is_sqlite:  # a shared database might have other servers, whose work is not yet swept
        with database.write() as connection:
            connection.execute(sa.update(tables.datasets).values(created_at=tables.datasets.c.created_at - 25 * 3600))
    datasets.sweep_abandoned()
    assert _num_stored_rows(database) == 1
    assert _all(datasets, "other") == [ROW]


def test_two_registrations_of_one_id_at_once(datasets: DatasetStore, database: Database) -> None:
    def overtaken(other: list[str]) -> Iterator[str]:
        yield ROW
        _register(datasets, "d", other)

    same = datasets.register(_new("d", [ROW]), nullcontext(SourceRows(overtaken([ROW]))))
    assert same == datasets.get("d")
    assert _num_stored_rows(database) == 1
    datasets.remove("d")
    with pytest.raises(ConflictError):
        datasets.register(_new("d", [ROW]), nullcontext(SourceRows(overtaken(["{}"]))))
    assert _all(datasets, "d") == ["{}"]
    assert _num_stored_rows(database) == 1


def test_appends_keep_order_and_counts(datasets: DatasetStore) -> None:
    _register(datasets, "d", [ROW])
    datasets.append("d", [])
    datasets.append("d", [ROW, '{"question":"é"}'])
    datasets.append("d", ['{"answer":1}', ROW] + [ROW] * 6000)
    dataset = datasets.get("d")
    texts = [ROW, ROW, '{"question":"é"}', '{"answer":1}', ROW, *[ROW] * 6000]
    assert _all(datasets, "d") == texts
    assert (dataset.num_rows, dataset.num_bytes) == (len(texts), sum(len(text.encode()) for text in texts))
    assert (dataset.num_incomplete_rows, dataset.first_incomplete_row) == (2, 2)


def test_a_version_reads_no_further(datasets: DatasetStore) -> None:
    version = datasets.version(_register(datasets, "d", ['{"i":0}', '{"i":1}']))
    datasets.append("d", ['{"i":2}'])
    assert list(datasets.read(version)) == [{"i": 0}, {"i": 1}]
    assert list(datasets.read(version, 1, 5)) == [{"i": 1}]


def test_many_writers_never_share_an_index(datasets: DatasetStore, open_database: Callable[[], Database]) -> None:
    _register(datasets, "d", [])
    # Two engines on one database stand for two processes.
    other = open_database()
    stores = [datasets, DatasetStore(other, JobStore(other))]

    def write(writer: int) -> None:
        for batch in range(10):
            stores[writer % 2].append("d", [f'{{"w":{writer},"b":{batch},"r":{r}}}' for r in range(3)])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(datasets.read(datasets.version(datasets.get("d"))))
    assert len(found) == datasets.get("d").num_rows == 180
    # Each call's rows stand together, and each writer's calls in their order.
    assert [row["r"] for row in found] == [0, 1, 2] * 60
    for writer in range(6):
        assert [row["b"] for row in found if row["w"] == writer] == [b for b in range(10) for _ in range(3)]


def test_an_append_that_fails_adds_nothing(datasets: DatasetStore, database: Database) -> None:
    before = _register(datasets, "d", [ROW])
    with database.write() as connection:  # a stray row, so that one of the second lot cannot be stored
        row_store.insert(connection, before.generation, 5500, ["{}"])
    with pytest.raises(sa.exc.IntegrityError):
        datasets.append("d", [ROW] * 6000)
    assert datasets.get("d") == before
    assert _all(datasets, "d") == [ROW]


def test_an_idempotency_key_appends_once(datasets: DatasetStore) -> None:
    _register(datasets, "d", [])
    _register(datasets, "e", [])
    for _ in range(2):
        datasets.append("d", [ROW], idempotency_key="k", body=b"1")
    assert datasets.get("d").num_rows == 1
    with pytest.raises(ConflictError, match="another body"):
        datasets.append("d", [ROW], idempotency_key="k", body=b"2")
    datasets.append("d", [ROW], idempotency_key="l", body=b"1")
    datasets.append("e", [ROW], idempotency_key="k", body=b"1")
    assert (datasets.get("d").num_rows, datasets.get("e").num_rows) == (2, 1)
    # Under a new dataset of the same id nothing was appended yet.
    datasets.remove("d")
    _register(datasets, "d", [])
    datasets.append("d", [ROW], idempotency_key="k", body=b"1")
    assert datasets.get("d").num_rows == 1


def test_removing_frees_the_id_but_never_the_generation(datasets: DatasetStore, database: Database) -> None:
    first = _register(datasets, "d", [ROW] * 3)
    datasets.remove("d")
    assert datasets.list() == []
    assert _num_stored_rows(database) == 0
    with pytest.raises(NotFoundError):
        list(datasets.read(datasets.version(first)))
    assert _register(datasets, "d", [ROW] * 3).generation > first.generation


def test_a_dataset_that_a_job_reads_stays_until_the_job_has_ended(datasets: DatasetStore, jobs: JobStore) -> None:
    dataset = _register(datasets, "d", [ROW])
    jobs.submit(NewJob("j", "eval", {}, reads=(datasets.version(dataset),)))
    with pytest.raises(ConflictError, match="The job j reads the dataset 'd'"):
        datasets.remove("d")
    with pytest.raises(ConflictError, match="The job j reads the dataset 'd'"):
        _register(datasets, "d", ["{}"], replace=True)
    assert datasets.get("d") == dataset
    assert _all(datasets, "d") == [ROW]
    jobs.cancel("j")
    datasets.remove("d")


def test_a_dataset_that_a_benchmark_names_stays(datasets: DatasetStore, database: Database) -> None:
    dataset = _register(datasets, "d", [ROW])
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.benchmarks).values(
                benchmark_id="b",
                provider_id="p",
                dataset_id="d",
                scoring_functions_json="[]",
                metadata_json="{}",
                created_at=0.0,
            )
        )
    with pytest.raises(ConflictError, match="The benchmark 'b' names the dataset 'd'"):
        datasets.remove("d")
    assert datasets.get("d") == dataset
    assert _register(datasets, "d", ["{}"], replace=True).num_rows == 1


def test_what_was_stored_is_there_in_another_process(
    datasets: DatasetStore, open_database: Callable[[], Database]
) -> None:
    _register(datasets, "d", [ROW])
    datasets.append("d", ["{}"])
    other = open_database()
    assert _all(DatasetStore(other, JobStore(other)), "d") == [ROW, "{}"]

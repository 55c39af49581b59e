from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddock.datasets import ingest, registration
from paddock.datasets.rows import SourceError
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore, StoredDataset
from paddock.errors import ConflictError, InvalidRequestError, LostLeaseError, NotFoundError
from paddock.jobs import states
from paddock.jobs.job import Job, NewJob
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.states import JobStatus
from paddock.jobs.store import JobStore

TEXTS = [f'{{"question":"q{n}","answer":{n}.10}}' for n in range(100)]


@pytest.fixture(autouse=True)
def _small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.datasets.sources.SMALL_BYTES", 500)
    monkeypatch.setattr("paddock.datasets.ingest._LOT_ROWS", 10)


class World:
    """A file that is long by these tests' measure, and the worker that reads it."""

    def __init__(self, datasets: DatasetStore, jobs: JobStore, root: Path) -> None:
        self.datasets = datasets
        self.jobs = jobs
        self.file = root / "rows.jsonl"
        self.access = Access((root,))
        self.write(TEXTS)

    def write(self, lines: list[str]) -> None:
        self.file.write_text("\n".join(lines) + "\n")

    def register(self, dataset_id: str = "d", *, replace: bool = False, **metadata: Any) -> StoredDataset:
        entry = {
            "dataset_id": dataset_id,
            "purpose": "eval/question-answer",
            "source": {"type": "uri", "uri": self.file.as_uri()},
            "metadata": metadata,
        }
        return registration.register_entry(self.datasets, self.access, entry, replace=replace)

    def claim(self) -> Job | None:
        return self.jobs.claim(worker_id="w", lease_seconds=60)

    def start(self) -> Progress:
        job = self.claim()
        assert job is not None
        assert job.kind == ingest.KIND
        return Progress(job, self.jobs)

    def run(self, progress: Progress) -> None:
        """As `runners` does."""
        now, job = self.jobs.database.now(), progress.job
        try:
            ingest.run(progress, self.datasets.ingests, self.access)
        except InvalidRequestError as error:
            with self.jobs.database.write() as connection:
                states.fail(connection, now, job.job_id, job.attempt, error.detail)
            raise
        with self.jobs.database.write() as connection:
            states.complete(connection, now, job.job_id, job.attempt)

    def lose(self, progress: Progress) -> None:
        """As if the job's process had been killed."""
        with self.jobs.database.write() as connection:
            job = progress.job
            states.lose(connection, self.jobs.database.now(), job.job_id, job.attempt, max_lost=9, reason="killed")

    def rows(self) -> list[str]:
        return list(self.datasets.page(self.datasets.get("d"), 0, 10**9))


@pytest.fixture
def world(datasets: DatasetStore, jobs: JobStore, root: Path) -> World:
    return World(datasets, jobs, root)


def _after_lots(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], object]) -> None:
    """Do something between two lots."""
    num_lots = [0]

    def sleep(_seconds: float) -> None:
        num_lots[0] += 1
        if num_lots[0] == count:
            act()

    monkeypatch.setattr("paddock.datasets.ingest.sleep", sleep)


def test_a_long_source_is_read_by_a_job(world: World) -> None:
    dataset = world.register()
    assert (dataset.num_rows, dataset.state, dataset.num_rows_read, dataset.error) == (0, "reading", 0, None)
    assert world.rows() == []
    assert world.register() == dataset  # the same again, while it is under way
    progress = world.start()
    world.run(progress)
    dataset = world.datasets.get("d")
    assert (dataset.num_rows, dataset.state, dataset.num_rows_read) == (100, "ready", 100)
    assert dataset.num_bytes == sum(map(len, TEXTS))
    assert world.rows() == TEXTS
    job = world.jobs.get(progress.job.job_id)
    assert job.status is JobStatus.COMPLETED
    assert job.progress == {"done": 100, "total": None, "unit": "rows"}
    assert world.register() == dataset
    assert world.claim() is None
    with pytest.raises(ConflictError):
        world.register(note="another")


def test_a_short_source_is_read_at_once(world: World) -> None:
    world.write(TEXTS[:10])
    dataset = world.register()
    assert (dataset.num_rows, dataset.state, dataset.ingest_job_id) == (10, "ready", None)
    assert world.claim() is None


def test_a_short_file_of_many_rows_is_left_to_a_job_and_leaves_nothing(world: World) -> None:
    import gzip

    world.file = world.file.with_suffix(".jsonl.gz")
    world.file.write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    assert world.file.stat().st_size < 500 * 2
    assert world.register().state == "reading"
    world.run(world.start())
    assert world.rows() == TEXTS


@pytest.mark.parametrize("num_lots", [1, 5, 10])
def test_a_killed_ingest_goes_on_without_doubles(world: World, monkeypatch: pytest.MonkeyPatch, num_lots: int) -> None:
    world.register()
    progress = world.start()
    _after_lots(monkeypatch, num_lots, lambda: world.lose(progress))
    if num_lots < 10:
        with pytest.raises(LostLeaseError):
            ingest.run(progress, world.datasets.ingests, world.access)
    else:  # killed behind the last row
        with pytest.raises(LostLeaseError):
            world.run(progress)
    dataset = world.datasets.get("d")
    assert (dataset.num_rows, dataset.state, dataset.num_rows_read) == (10 * num_lots, "reading", 10 * num_lots)
    assert world.rows() == TEXTS[: 10 * num_lots]
    world.datasets.append("d", ['{"question":"between"}'])
    again = world.start()
    assert again.job.attempt == 2
    world.run(again)
    dataset = world.datasets.get("d")
    assert (dataset.num_rows, dataset.state, dataset.num_rows_read) == (101, "ready", 100)
    assert world.rows() == [*TEXTS[: 10 * num_lots], '{"question":"between"}', *TEXTS[10 * num_lots :]]
    assert (dataset.num_incomplete_rows, dataset.first_incomplete_row) == (1, 10 * num_lots)


def test_a_server_that_ends_keeps_what_was_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.register()
    progress = world.start()
    _after_lots(monkeypatch, 3, progress.ask_to_stop)
    with pytest.raises(StopRequestedError):
        world.run(progress)
    assert world.rows() == TEXTS[:30]


def test_a_wrong_line_is_named_and_a_mended_file_goes_on(world: World) -> None:
    world.write([*TEXTS[:57], "broken", *TEXTS[57:]])
    world.register()
    with pytest.raises(SourceError):
        world.run(world.start())
    dataset = world.datasets.get("d")
    assert (dataset.state, dataset.num_rows) == ("failed", 50)
    assert dataset.error is not None
    assert dataset.error.startswith("Line 58 of the source is not valid JSON")
    with pytest.raises(
        InvalidRequestError, match=r"not read to its end: Line 58 .* Register it again to go on"
    ) as raised:
        dataset.check_whole("/dataset_id")
    assert raised.value.errors[0].pointer == "/dataset_id"
    world.write(TEXTS)
    dataset = world.register()
    assert (dataset.state, dataset.error) == ("reading", None)
    world.run(world.start())
    assert world.rows() == TEXTS
    assert world.datasets.get("d").state == "ready"


@pytest.mark.parametrize("change", [lambda texts: ["{}", *texts], lambda texts: texts[:5]])
def test_a_source_that_was_changed_is_not_read_on(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[str]], list[str]]
) -> None:
    world.register()
    progress = world.start()
    _after_lots(monkeypatch, 2, progress.ask_to_stop)
    with pytest.raises(StopRequestedError):
        world.run(progress)
    world.lose(progress)
    world.write(change(TEXTS))
    with pytest.raises(SourceError, match="its first 20 rows are not those that were read before"):
        world.run(world.start())
    assert world.rows() == TEXTS[:20]


def test_appends_beside_lose_nothing(world: World) -> None:
    world.register()
    progress = world.start()
    appended = [f'{{"n":{n}}}' for n in range(60)]
    thread = threading.Thread(target=lambda: [world.datasets.append("d", [text]) for text in appended])
    thread.start()
    world.run(progress)
    thread.join(30)
    rows = world.rows()
    assert [row for row in rows if "question" in row] == TEXTS
    assert [row for row in rows if "question" not in row] == appended
    assert world.datasets.get("d").num_rows == 160


def test_a_job_on_it_waits_and_reads_what_is_there_when_it_has_finished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = world.register()
    waiting = world.jobs.submit(NewJob("waits", "eval", {}, reads=(world.datasets.version(dataset),)))
    assert waiting.reads[0].num_rows == 0
    progress = world.start()
    assert world.claim() is None
    _after_lots(monkeypatch, 4, lambda: world.datasets.append("d", ["{}"]))
    world.run(progress)
    world.datasets.append("d", ['{"late":1}'])
    job = world.claim()
    assert job is not None
    assert (job.job_id, job.reads[0].num_rows) == ("waits", 101)
    world.datasets.ingests.check_whole(job.reads)
    assert len(list(world.datasets.read(job.reads[0]))) == 101


def test_a_job_that_waited_in_vain_is_told(world: World) -> None:
    world.write([*TEXTS[:35], "[1]"])
    dataset = world.register()
    world.jobs.submit(NewJob("waits", "eval", {}, reads=(world.datasets.version(dataset),)))
    with pytest.raises(SourceError):
        world.run(world.start())
    job = world.claim()
    assert job is not None
    with pytest.raises(SourceError, match="The source of the dataset 'd' was not read to its end"):
        world.datasets.ingests.check_whole(job.reads)


def test_removing_and_replacing_end_the_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.register()
    progress = world.start()
    _after_lots(monkeypatch, 3, lambda: world.datasets.remove("d"))
    with pytest.raises(LostLeaseError):
        world.run(progress)
    assert world.jobs.get(progress.job.job_id).status is JobStatus.CANCELLED
    assert world.datasets.find("d") is None
    with pytest.raises(NotFoundError):
        world.datasets.ingests.get(progress.job.request["generation"])
    first = world.register()
    second = world.register(replace=True, note="another")
    assert second.generation > first.generation
    assert world.jobs.get(str(first.ingest_job_id)).status is JobStatus.CANCELLED
    world.run(world.start())
    assert world.rows() == TEXTS


def test_a_cancelled_ingest_keeps_its_rows_and_can_be_taken_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.register()
    progress = world.start()
    _after_lots(monkeypatch, 3, lambda: world.jobs.cancel(progress.job.job_id))
    with pytest.raises(LostLeaseError):
        world.run(progress)
    dataset = world.datasets.get("d")
    assert (dataset.state, dataset.num_rows) == ("cancelled", 30)
    with pytest.raises(InvalidRequestError, match="its job was cancelled"):
        dataset.check_whole()
    assert world.register().state == "reading"
    world.run(world.start())
    assert world.rows() == TEXTS

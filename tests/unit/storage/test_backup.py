from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from paddock import wiring
from paddock.cli import main
from paddock.datasets.registration import register_entry
from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.inference.engine import Model
from paddock.jobs.job import NewJob
from paddock.jobs.progress import Progress
from paddock.post_training.store import StoredCheckpoint
from paddock.settings import Settings
from paddock.storage.backup import back_up
from paddock.storage.data_dir import DataDir
from paddock.wiring import Resources


@pytest.fixture
def resources(settings: Settings) -> Resources:
    resources = wiring.build(settings)
    source = {"type": "rows", "rows": [{"question": "q", "answer": "a"}]}
    register_entry(resources.datasets, (), {"dataset_id": "d", "purpose": "eval/question-answer", "source": source})
    return resources


def _training(resources: Resources) -> Progress:
    """A running job with a checkpoint, a log and a resume point."""
    resources.jobs.submit(NewJob("tune", "sft", {}))
    job = resources.jobs.claim(worker_id="w", lease_seconds=60)
    assert job is not None
    progress = Progress(job, resources.jobs)
    folder = resources.checkpoints.root / "x" / "epoch-1"
    folder.mkdir(parents=True)
    (folder / "adapter.safetensors").write_bytes(b"weights")
    (resources.checkpoints.root / "x" / "epoch-2").mkdir()  # half written: no row names it
    with progress.write() as connection:
        checkpoint = StoredCheckpoint("tune:epoch-1", "tune", 1, "x/epoch-1", "0", None, time.time())
        resources.checkpoints.publish(
            connection, checkpoint, Model("tune:epoch-1", "local", "x/epoch-1", job_id="tune")
        )
    _save(resources, progress, 1)
    resources.data_dir.log_file("tune", 1).write_text("said")
    return progress


def _save(resources: Resources, progress: Progress, step: int) -> None:
    """A resume point, as training keeps them: the new one, its row, and then the one before goes."""
    root = resources.checkpoints.resume_root("tune")
    new = root / f"step-{step}"
    new.mkdir(parents=True)
    for part in range(20):
        (new / f"part-{part}").write_bytes(str(step).encode())
    with progress.write() as connection:
        resources.checkpoints.set_resume_point(connection, "tune", step=step, path=new.name)
    for other in root.iterdir():
        if other != new:
            for file in other.iterdir():
                file.unlink()
            other.rmdir()


def _copy(folder: Path) -> Resources:
    return wiring.build(Settings(data_dir=folder))


def test_a_copy_is_whole_and_its_jobs_wait(resources: Resources, tmp_path: Path) -> None:
    _training(resources)
    back_up(resources.data_dir, tmp_path / "copy")
    copy = _copy(tmp_path / "copy")
    job = copy.jobs.get("tune")
    assert (job.status, job.attempt, job.num_lost) == ("scheduled", 1, 0)
    assert copy.jobs.events("tune")[-1]["detail"] == "The server was backed up."
    assert list(copy.datasets.read(copy.datasets.version(copy.datasets.get("d")))) == [{"question": "q", "answer": "a"}]
    (checkpoint,) = copy.checkpoints.of_job("tune")
    assert (copy.checkpoints.root / checkpoint.path / "adapter.safetensors").read_bytes() == b"weights"
    assert not (copy.checkpoints.root / "x" / "epoch-2").exists()
    point = copy.checkpoints.resume_point("tune")
    assert point is not None
    assert (point / "part-7").read_bytes() == b"1"
    assert copy.data_dir.log_file("tune", 1).read_text() == "said"
    # The original has noticed nothing.
    assert resources.jobs.get("tune").status == "in_progress"
    copy.database.close()


def test_copies_while_a_job_replaces_its_files_and_rows_come_in(resources: Resources, tmp_path: Path) -> None:
    progress = _training(resources)
    ending = threading.Event()

    def work() -> None:
        step = 1
        while not ending.is_set():
            step += 1
            _save(resources, progress, step)
            resources.datasets.append("d", ['{"question":"q","answer":"a"}'] * 50)
            time.sleep(0.05)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(3):
            back_up(resources.data_dir, tmp_path / f"copy-{number}")
    finally:
        ending.set()
        worker.join()
    for number in range(3):
        copy = _copy(tmp_path / f"copy-{number}")
        dataset = copy.datasets.get("d")
        assert len(list(copy.datasets.read(copy.datasets.version(dataset)))) == dataset.num_rows
        point = copy.checkpoints.resume_point("tune")
        assert point is not None
        step = point.name.removeprefix("step-").encode()
        assert [(point / f"part-{part}").read_bytes() for part in range(20)] == [step] * 20
        copy.database.close()


def test_what_is_refused(resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ConflictError, match="not empty"):
        back_up(resources.data_dir, tmp_path / "taken")
    with pytest.raises(InvalidRequestError, match="outside of the data directory"):
        back_up(resources.data_dir, resources.data_dir.root / "copy")
    with pytest.raises(NotFoundError, match="nothing to copy"):
        back_up(DataDir(tmp_path / "nowhere"), tmp_path / "copy")
    monkeypatch.setenv("PADDOCK_DATABASE_URL", "postgresql://localhost/x")
    refused = CliRunner().invoke(main, ["backup", str(tmp_path / "copy")])
    assert refused.exit_code == 1
    assert "pg_dump" in refused.output
    assert not (tmp_path / "copy").exists()


def test_a_copy_that_fails_leaves_nothing(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _training(resources)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paddock.storage.backup.shutil.copytree", full)
    with pytest.raises(OSError, match="No space"):
        back_up(resources.data_dir, tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))


def test_what_the_command_cannot_do_is_one_sentence(resources: Resources, tmp_path: Path) -> None:
    resources.database.close()
    (tmp_path / "file").write_text("")
    data_dir = ("--data-dir", str(resources.data_dir.root))
    nowhere = CliRunner().invoke(main, ["backup", str(tmp_path / "file" / "copy"), *data_dir])
    assert (nowhere.exit_code, "Not a directory" in nowhere.output) == (1, True)
    resources.data_dir.database_file.write_bytes(b"no database" * 1000)
    for words in (["backup", str(tmp_path / "copy")], ["models", "export", "tune:epoch-1", str(tmp_path / "export")]):
        damaged = CliRunner().invoke(main, [*words, *data_dir])
        assert (damaged.exit_code, "not a database" in damaged.output) == (1, True)
    assert not (tmp_path / "copy").exists()

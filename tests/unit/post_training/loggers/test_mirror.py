"""Series of real trainings in TensorBoard's files and MLflow's, read back by the libraries themselves; and loggers that
fail, which no training notices."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paddock.jobs import states
from paddock.jobs.job import NewJob
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.states import JobStatus
from paddock.post_training.loggers import mirror
from paddock.post_training.loggers.logger import Run
from paddock.post_training.loggers.mirror import Mirror
from paddock.post_training.loggers.tensorboard import TensorBoard
from paddock.wiring import Resources
from training_office import add_dataset, chats, run, sft_request, stop_at, training

SERIES = ("loss", "lr", "grad_norm", "tokens_per_second", "memory_bytes", "epoch", "validation_loss", "perplexity")


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(12))


def _request(job_uuid: str, *loggers: str, **more: Any) -> dict[str, Any]:
    config = {"loggers": list(loggers), "run_name": "first/run", "project": "my project", "tags": {"team": "a"}} | more
    return sft_request(job_uuid, training("chats", validation_dataset_id="chats"), logger_config=config)


def _series(resources: Resources, job_id: str) -> dict[str, list[tuple[int, float]]]:
    """Our own: name → (step, value)."""
    points = resources.jobs.metrics(job_id)
    return {name: [(point["step"], point[name]) for point in points if name in point] for name in SERIES}


def _in_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def _equal(found: dict[str, list[tuple[int, float]]], expected: dict[str, list[tuple[int, float]]]) -> None:
    for name, values in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        # Event files hold float32.
        assert [v for _, v in found[name]] == pytest.approx([v for _, v in values], rel=1e-6)


def _run_in_two_parts(resources: Resources, request: dict[str, Any]) -> None:
    with pytest.raises(StopRequestedError):
        run(resources, request, on_start=stop_at(4))
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), request["job_uuid"], 1)
    assert run(resources, request).status is JobStatus.COMPLETED


def test_tensorboard_has_each_step_once(resources: Resources, tmp_path: Path) -> None:
    _run_in_two_parts(resources, _request("tune", "tensorboard"))
    (folder,) = (tmp_path / "data" / "loggers" / "tensorboard").glob("*/*")
    assert (folder.parent.name[:11], folder.name[:10]) == ("my-project-", "first-run-")
    assert len(list(folder.iterdir())) == 2  # an event file for each attempt
    own = _series(resources, "tune")
    assert [step for step, _ in own["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in own["validation_loss"]] == [3, 6]
    _equal(_in_tensorboard(folder), own)


def test_mlflow_has_each_step_once(resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run_in_two_parts(resources, _request("tune", "mlflow"))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "data" / "loggers" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("my project")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status, found.data.tags["team"]) == ("first/run", "FINISHED", "a")
    assert found.data.params["training_config.optimizer_config.lr"] == "0.01"
    own = _series(resources, "tune")
    histories = {name: client.get_metric_history(found.info.run_id, name) for name in own}
    _equal({name: [(m.step, m.value) for m in history] for name, history in histories.items()}, own)


def test_without_loggers_nothing_is_written(resources: Resources, tmp_path: Path) -> None:
    run(resources, sft_request("tune", training("chats")))
    assert not (tmp_path / "data" / "loggers").exists()
    assert _series(resources, "tune")["memory_bytes"][0][1] > 1e7


def test_a_server_that_is_away_fails_no_training(resources: Resources, caplog: pytest.LogCaptureFixture) -> None:
    resources = replace(
        resources, settings=resources.settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:1"})
    )
    with caplog.at_level(logging.WARNING, "paddock.training"):
        job = run(resources, _request("tune", "mlflow", "tensorboard"))
    assert job.status is JobStatus.COMPLETED
    assert [record.message.split(",")[0] for record in caplog.records] == ["The logger mlflow fails"]
    (folder,) = (resources.settings.data_dir / "loggers" / "tensorboard").glob("*/*")
    _equal(_in_tensorboard(folder), _series(resources, "tune"))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_never_answers_holds_no_job_up(
    resources: Resources, silent_server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "_LAST_WORD_SECONDS", 0.5)
    monkeypatch.setattr(mirror, "_FORWARD_EVERY_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    resources = replace(
        resources, settings=resources.settings.model_copy(update={"mlflow_tracking_uri": silent_server})
    )
    started = time.monotonic()
    assert run(resources, _request("tune", "mlflow")).status is JobStatus.COMPLETED
    assert time.monotonic() - started < 60
    assert "did not end" in caplog.text


def _mirror(resources: Resources, tmp_path: Path, job_id: str) -> Mirror:
    run = Run(job_id, "name", "project", {}, {"lr": 1}, tmp_path / "loggers", resources.settings)
    return Mirror(resources.jobs, run, {"tensorboard": TensorBoard})


def _progress(resources: Resources) -> Progress:
    resources.jobs.submit(NewJob("j", "sft", {}))
    job = resources.jobs.claim(worker_id="test", lease_seconds=600)
    assert job is not None
    return Progress(job, resources.jobs)


def _note(progress: Progress, step: int, **values: float) -> None:
    progress.note_metrics(step, **values)
    progress.report(step, 9, "steps", now=True)


def test_a_logger_that_comes_back_gets_what_it_missed(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "_FORWARD_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(mirror, "_LEFT_ALONE_SECONDS", 0.05)
    progress = _progress(resources)
    in_the_way = tmp_path / "loggers"
    in_the_way.write_text("no folder can be made here")
    forwarding = _mirror(resources, tmp_path, "j")
    forwarding.start()
    _note(progress, 1, loss=3.0)
    _wait_for(lambda: "fails" in caplog.text)
    _note(progress, 2, loss=2.0)
    time.sleep(0.3)  # it fails some times more, without a word
    in_the_way.unlink()
    _wait_for(lambda: "is back" in caplog.text)
    # A validation comes after its step's loss was sent.
    _note(progress, 2, validation_loss=2.5)
    _note(progress, 3, loss=1.0)
    forwarding.stop("completed")
    (folder,) = in_the_way.glob("tensorboard/*/*")
    assert _in_tensorboard(folder) == {"loss": [(1, 3.0), (2, 2.0), (3, 1.0)], "validation_loss": [(2, 2.5)]}
    assert caplog.text.count("fails") == 1


def test_a_kill_between_two_sendings_doubles_nothing(resources: Resources, tmp_path: Path) -> None:
    progress = _progress(resources)
    for step in range(1, 4):
        _note(progress, step, loss=float(step))
    killed = _mirror(resources, tmp_path, "j")
    (channel,) = killed._channels
    channel.forward(killed._points)
    (folder,) = (tmp_path / "loggers").glob("tensorboard/*/*")
    (file,) = folder.iterdir()
    # Killed in the middle of a record: the last step is not whole in the file.
    file.write_bytes(file.read_bytes()[:-5])
    assert [step for step, _ in _in_tensorboard(folder)["loss"]] == [1, 2]
    _note(progress, 4, loss=4.0)
    time.sleep(1.1)  # a second attempt's file has another second in its name
    second = _mirror(resources, tmp_path, "j")
    second.start()
    second.stop("completed")
    assert _in_tensorboard(folder)["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

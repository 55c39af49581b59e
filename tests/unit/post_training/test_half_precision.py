"""fp16 with loss scaling. It is offered on GPUs alone, but nothing in it needs one: here the recipe itself runs on a CPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock.errors import InvalidRequestError, PaddockError
from paddock.jobs import states
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.post_training import checkpoints, job, machine, optimizers, source
from paddock.post_training.attempt import Attempt
from paddock.post_training.recipes import sft
from paddock.post_training.team import Team
from paddock.settings import Settings
from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, run, sft_request, stop_at, submit, training


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, resources: Resources) -> None:
    monkeypatch.setattr(machine, "may_have_gpu", lambda _settings: True)
    add_dataset(resources, "chats", chats(12))


def _attempt(resources: Resources, request: dict[str, Any], *, stop_step: int | None = None) -> None:
    submit(resources, request)
    claimed = resources.jobs.claim(worker_id="test", lease_seconds=600)
    assert claimed is not None
    progress = Progress(claimed, resources.jobs)
    if stop_step is not None:
        stop_at(stop_step)(progress)
    start = source.resolve(resources.inference.find("tiny"), resources.checkpoints.root, "/model")
    attempt = Attempt(
        progress,
        job.configuration(claimed),
        start,
        Path(start.base),
        resources.datasets,
        resources.checkpoints,
        Team(0, 1, torch.device("cpu")),
    )
    checkpoints.remove_unpublished(attempt)
    try:
        sft.fine_tune(attempt)
    except StopRequestedError:
        with resources.database.write() as connection:
            states.hand_back(connection, resources.database.now(), claimed.job_id, claimed.attempt)
    except PaddockError as error:
        with resources.database.write() as connection:
            states.fail(connection, resources.database.now(), claimed.job_id, claimed.attempt, error.detail)
    else:
        with progress.write() as connection:
            progress.flush_metrics(connection)
            states.complete(connection, resources.database.now(), claimed.job_id, claimed.attempt)


def _scaler(**more: float) -> Any:
    def make(compute: torch.dtype, device: torch.device) -> Any:
        return torch.amp.GradScaler(device.type, enabled=compute is torch.float16, **more)

    return make


@pytest.mark.parametrize("algorithm", [LORA, None], ids=["lora", "full"])
def test_losses_are_near_those_of_fp32_and_it_resumes_to_the_bit(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, algorithm: dict[str, Any] | None
) -> None:
    # A scale that grows, so that the resumed job must know how far it is.
    monkeypatch.setattr(optimizers, "make_scaler", _scaler(init_scale=1024.0, growth_interval=2))
    config = training("chats", dtype="fp16")
    config["optimizer_config"]["lr"] = 1e-3
    run(resources, sft_request("exact", config | {"dtype": "fp32"}, algorithm_config=algorithm))
    _attempt(resources, sft_request("half", config, algorithm_config=algorithm))
    _attempt(resources, sft_request("resumed", config, algorithm_config=algorithm), stop_step=4)
    _attempt(resources, sft_request("resumed", config, algorithm_config=algorithm))
    series = {name: list(resources.jobs.metrics(name)) for name in ("exact", "half", "resumed")}
    losses = {name: [point["loss"] for point in points] for name, points in series.items()}
    assert losses["half"] == pytest.approx(losses["exact"], rel=0.01)
    assert losses["half"] != losses["exact"]
    assert [point["loss_scale"] for point in series["half"]] == [1024.0, 1024.0, 2048.0, 2048.0, 4096.0, 4096.0]
    assert "loss_scale" not in series["exact"][0]
    assert losses["resumed"] == losses["half"]
    hashes = [[c.sha256 for c in resources.checkpoints.of_job(name)] for name in ("half", "resumed")]
    assert hashes[0] == hashes[1]


def test_a_step_that_overflows_is_left_out(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "make_scaler", _scaler(init_scale=2.0**30, backoff_factor=2.0**-20))
    _attempt(resources, sft_request("half", training("chats", dtype="fp16"), algorithm_config=None))
    first, second, *_ = resources.jobs.metrics("half")
    assert (first["loss_scale"], second["loss_scale"]) == (2.0**30, 2.0**10)
    assert "grad_norm" not in first
    assert math.isfinite(second["grad_norm"])
    assert resources.checkpoints.of_job("half") != []


def test_what_no_scale_helps_fails(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "make_scaler", _scaler(init_scale=1.0))
    monkeypatch.setattr(optimizers, "clip", lambda *_: torch.tensor(math.inf))
    _attempt(resources, sft_request("half", training("chats", dtype="fp16")))
    assert "gradient of step 1 is not finite" in (resources.jobs.get("half").error or "")


def test_without_a_gpu_the_job_refuses_too(resources: Resources) -> None:
    """A driver may be there without its device."""
    with pytest.raises(InvalidRequestError, match="torch finds none") as refusal:
        run(resources, sft_request("half", training("chats", dtype="fp16")))
    assert [error.pointer for error in refusal.value.errors] == ["/training_config/dtype"]


def test_a_gpu_is_told_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_DEVICE_FILES", (tmp_path / "nvidiactl",))
    assert not machine.may_have_gpu(Settings(device="auto"))
    assert not machine.may_have_gpu(Settings(device="cpu"))
    assert machine.may_have_gpu(Settings(device="cuda"))
    (tmp_path / "nvidiactl").touch()
    assert machine.may_have_gpu(Settings(device="auto"))
    assert not machine.may_have_gpu(Settings(device="cpu"))

"""Killed anywhere, a job goes on and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock import wiring
from paddock.errors import LostLeaseError
from paddock.inference.engine import Model
from paddock.jobs import states
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.states import JobStatus
from paddock.post_training import job as training_job
from paddock.settings import Settings
from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, stop_at, submit, training

_CHILD = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from training_office import run
from paddock import wiring
from paddock.jobs.progress import Progress
from paddock.post_training import resume
from paddock.settings import Settings
import json

resume.SAVE_EVERY_SECONDS = 0.0
resume._MAX_SHARE_OF_TIME = 1.0

def tell(progress: Progress) -> None:
    report = progress.report

    def report_and_tell(done, total, unit, *, now=False):
        report(done, total, unit, now=now)
        print(done, flush=True)

    progress.report = report_and_tell

run(wiring.build(Settings(data_dir=pathlib.Path(sys.argv[2]))), json.loads(sys.argv[3]), on_start=tell)
"""


def _hashes(resources: Resources, job_id: str) -> list[str]:
    return [checkpoint.sha256 for checkpoint in resources.checkpoints.of_job(job_id)]


def _run_and_kill(data_dir: Path, request: dict[str, Any], *, after_step: int) -> None:
    """Do the job in a process of its own, and SIGKILL it once it has told of `after_step`."""
    import json

    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(Path(__file__).parents[2]), str(data_dir), json.dumps(request)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after_step:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("kind", "kills"), [("sft", (4, 17)), ("dpo", (17,))])
def test_sigkill_changes_no_bit(tmp_path: Path, tiny_llama: Path, kind: str, kills: tuple[int, ...]) -> None:
    """Killed in the first epoch of twelve steps and in the second; what came after a resume point is done again."""

    def build(name: str) -> Resources:
        resources = wiring.build(Settings(data_dir=tmp_path / name))
        resources.inference.models.register(Model("tiny", "local", str(tiny_llama)))
        add_dataset(resources, "data", chats(48) if kind == "sft" else pairs(48))
        return resources

    config = training("data", n_epochs=2, validation_dataset_id="data")
    algorithm = LORA | {"dropout": 0.1}
    if kind == "sft":
        request = sft_request("job", config, algorithm_config=algorithm)
    else:
        request = dpo_request("job", "tiny", config, lora=algorithm)
    undisturbed, killed = build("undisturbed"), build("killed")
    run(undisturbed, request)
    for after_step in kills:
        _run_and_kill(tmp_path / "killed", request, after_step=after_step)
        job = killed.jobs.get("job")
        assert job.status is JobStatus.IN_PROGRESS
        assert killed.checkpoints.resume_point("job") is not None
        with killed.database.write() as connection:
            states.lose(connection, killed.database.now(), "job", job.attempt, max_lost=9, reason="SIGKILL")
    finished = run(killed, request)
    assert finished.attempt == len(kills) + 1
    assert finished.resources is not None
    assert finished.resources["exact_resume"] is True
    assert _hashes(killed, "job") == _hashes(undisturbed, "job")
    assert [c.metrics for c in killed.checkpoints.of_job("job")] == [
        c.metrics for c in undisturbed.checkpoints.of_job("job")
    ]
    losses = [[point["loss"] for point in r.jobs.metrics("job")] for r in (killed, undisturbed)]
    assert losses[0] == losses[1]
    undisturbed.database.close()
    killed.database.close()


def _stop_and_hand_back(resources: Resources, request: dict[str, Any], step: int) -> None:
    with pytest.raises(StopRequestedError):
        run(resources, request, on_start=stop_at(step))
    job = resources.jobs.get(request["job_uuid"])
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), job.job_id, job.attempt)


def test_one_resume_point_is_kept_and_its_metrics_with_it(resources: Resources) -> None:
    add_dataset(resources, "data", chats(12))
    request = sft_request("job", training("data"))
    for step in (1, 2, 4):
        _stop_and_hand_back(resources, request, step)
        folder = resources.checkpoints.resume_point("job")
        assert folder is not None
        assert [path.name for path in resources.checkpoints.resume_root("job").iterdir()] == [folder.name]
        assert [point["step"] for point in resources.jobs.metrics("job")] == list(range(1, step + 1))


def test_number_of_threads_goes_with_the_job(resources: Resources) -> None:
    add_dataset(resources, "data", chats(12))
    request = sft_request("job", training("data"))
    _stop_and_hand_back(resources, request, 2)
    other = wiring.build(resources.settings.model_copy(update={"num_threads": 2}))
    finished = run(other, request)
    assert finished.resources is not None
    assert finished.resources["num_threads"] == 1
    assert torch.get_num_threads() == 1
    assert finished.resources["exact_resume"] is True
    other.database.close()


def test_other_surroundings_are_told(resources: Resources) -> None:
    add_dataset(resources, "data", chats(12))
    request = sft_request("job", training("data"))
    _stop_and_hand_back(resources, request, 2)
    folder = resources.checkpoints.resume_point("job")
    assert folder is not None
    kept = torch.load(folder / "state.pt", weights_only=True)
    kept["surroundings"]["torch"] = "1.0"
    torch.save(kept, folder / "state.pt")
    finished = run(resources, request)
    assert finished.status is JobStatus.COMPLETED
    assert finished.resources is not None
    assert finished.resources["exact_resume"] is False


def test_a_job_whose_lease_is_lost_keeps_no_state(resources: Resources) -> None:
    """A process that was thought dead: what it saves after its successor began is nobody's."""
    add_dataset(resources, "data", chats(12))
    request = sft_request("job", training("data"))
    submit(resources, request)
    first = resources.jobs.claim(worker_id="first", lease_seconds=600)
    assert first is not None
    asleep = Progress(first, resources.jobs)
    with resources.database.write() as connection:
        states.lose(connection, resources.database.now(), "job", 1, max_lost=9, reason="silent")
    _stop_and_hand_back(resources, request, 3)
    kept = resources.checkpoints.resume_point("job")
    asleep.report = lambda *_args, **_more: None  # type: ignore[method-assign]
    asleep.set_resources = lambda **_more: None  # type: ignore[method-assign]
    stop_at(4)(asleep)
    with pytest.raises(LostLeaseError):
        training_job.run(asleep, resources.settings, resources.datasets, resources.checkpoints, resources.inference)
    assert resources.checkpoints.resume_point("job") == kept
    assert kept is not None
    assert list(kept.parent.iterdir()) == [kept]

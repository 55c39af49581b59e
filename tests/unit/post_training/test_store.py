"""Checkpoints and resume points in the database, without the tensors."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from paddock import wiring
from paddock.errors import LostLeaseError
from paddock.inference.engine import Model
from paddock.jobs.job import NewJob
from paddock.jobs.progress import Progress
from paddock.post_training.store import StoredCheckpoint
from paddock.settings import Settings
from paddock.wiring import Resources


@pytest.fixture
def resources(settings: Settings, database_url: str) -> Iterator[Resources]:
    resources = wiring.build(settings.model_copy(update={"database_url": database_url}))
    yield resources
    resources.database.close()


@pytest.fixture
def progress(resources: Resources) -> Progress:
    resources.jobs.submit(NewJob("tune", "sft", {}))
    job = resources.jobs.claim(worker_id="w", lease_seconds=60)
    assert job is not None
    return Progress(job, resources.jobs)


def _publish(resources: Resources, progress: Progress, epoch: int) -> StoredCheckpoint:
    name, path = f"tune:epoch-{epoch}", f"x/epoch-{epoch}"
    checkpoint = StoredCheckpoint(name, "tune", epoch, path, "0", {"train_loss": 1.0}, time.time())
    with progress.write() as connection:
        resources.checkpoints.publish(connection, checkpoint, Model(name, "local", path, job_id="tune"))
    return checkpoint


def test_a_checkpoint_and_its_model_come_together(resources: Resources, progress: Progress) -> None:
    first, second = _publish(resources, progress, 1), _publish(resources, progress, 2)
    assert resources.checkpoints.of_job("tune") == [first, second]
    found = resources.inference.models.find("tune:epoch-2")
    assert found is not None
    assert found.provider_model_id == "x/epoch-2"
    resources.jobs.cancel("tune")
    with pytest.raises(LostLeaseError):
        _publish(resources, progress, 3)
    assert resources.inference.models.find("tune:epoch-3") is None
    assert len(resources.checkpoints.of_job("tune")) == 2


def test_a_cancel_lets_a_checkpoint_that_is_being_written_be_published(
    resources: Resources, progress: Progress
) -> None:
    with progress.saving():
        resources.jobs.cancel("tune")
        _publish(resources, progress, 1)
    assert [checkpoint.epoch for checkpoint in resources.checkpoints.of_job("tune")] == [1]
    assert resources.jobs.get("tune").status == "cancelled"


def test_a_resume_point_replaces_the_one_before_and_goes_with_the_job(resources: Resources, progress: Progress) -> None:
    store = resources.checkpoints
    assert store.resume_point("tune") is None
    for step in (1, 2):
        (store.resume_root("tune") / f"step-{step}").mkdir(parents=True)
        with progress.write() as connection:
            store.set_resume_point(connection, "tune", step=step, path=f"step-{step}")
        assert store.resume_point("tune") == store.resume_root("tune") / f"step-{step}"
    # Another server on the same database does not have the folder: there the job begins anew.
    (store.resume_root("tune") / "step-2").rmdir()
    assert store.resume_point("tune") is None
    store.drop_dead_resume_points()
    assert store.resume_root("tune").exists()
    resources.jobs.cancel("tune")
    store.drop_dead_resume_points()
    assert not store.resume_root("tune").exists()

"""The fields that name a training job; those that make one are in `training`."""

from __future__ import annotations

from collections.abc import Sequence

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field
from training_office import chats, sft_request, training

JOBS = "/v1alpha/post-training"


def _submit(lab: Lab) -> str:
    """Schedule one step of training; returns the job's uuid."""
    dataset_id = lab.add_dataset(chats(4), purpose="post-training/messages")
    steps = training(dataset_id, n_epochs=1, max_steps_per_epoch=1)
    job_uuid = lab.new_id("training")
    lab.call("POST", f"{JOBS}/supervised-fine-tune", sft_request(job_uuid, steps))
    return job_uuid


def _statuses(lab: Lab, job_uuids: Sequence[str]) -> list[str]:
    shown = [lab.call("GET", f"{JOBS}/job/status", job_uuid=job_uuid) for job_uuid in job_uuids]
    assert [status["job_uuid"] for status in shown] == list(job_uuids)
    return [status["status"] for status in shown]


@field("get_training_job_status job_uuid (query) string")
def status(lab: Lab) -> None:
    first, second = _submit(lab), _submit(lab)
    lab.call("POST", f"{JOBS}/job/cancel", {"job_uuid": second})
    assert _statuses(lab, [first, second]) == ["scheduled", "cancelled"]
    lab.call("POST", f"{JOBS}/job/cancel", {"job_uuid": first})


@field("cancel_training_job job_uuid string")
def cancel(lab: Lab) -> None:
    jobs = [_submit(lab), _submit(lab)]
    assert _statuses(lab, jobs) == ["scheduled", "scheduled"]
    lab.call("POST", f"{JOBS}/job/cancel", {"job_uuid": jobs[1]})
    assert _statuses(lab, jobs) == ["scheduled", "cancelled"]
    lab.call("POST", f"{JOBS}/job/cancel", {"job_uuid": jobs[0]})
    assert _statuses(lab, jobs) == ["cancelled", "cancelled"]


@field("get_training_job_artifacts job_uuid (query) string")
def artifacts(lab: Lab) -> None:
    """Each job shows the checkpoints that it made: the one that was cancelled shows none."""
    trained = _submit(lab)
    assert lab.run_job(trained).error is None
    cancelled = _submit(lab)
    lab.call("POST", f"{JOBS}/job/cancel", {"job_uuid": cancelled})
    shown = {
        job_uuid: [
            checkpoint["identifier"]
            for checkpoint in lab.call("GET", f"{JOBS}/job/artifacts", job_uuid=job_uuid)["checkpoints"]
        ]
        for job_uuid in (trained, cancelled)
    }
    assert shown == {trained: [f"{trained}:epoch-1"], cancelled: []}

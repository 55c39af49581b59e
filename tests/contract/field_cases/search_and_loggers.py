"""The fields of post-training that hold objects of our own: the search, and the loggers."""

from __future__ import annotations

from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field
from training_office import LORA, chats, complete, dpo_request, pairs, run_next, sft_request, start_search, training

PATHS = {
    "supervised_fine_tune": "/v1alpha/post-training/supervised-fine-tune",
    "preference_optimize": "/v1alpha/post-training/preference-optimize",
}
RATE = "training_config.optimizer_config.lr"


def _request(lab: Lab, operation: str, **changes: Any) -> dict[str, Any]:
    job_uuid = lab.new_id("job")
    rows = chats(8) if operation == "supervised_fine_tune" else pairs(8)
    dataset = lab.add_dataset(rows, "post-training/messages")
    config = training(dataset, validation_dataset_id=dataset, n_epochs=1)
    if operation == "supervised_fine_tune":
        return sft_request(job_uuid, config) | changes
    return dpo_request(job_uuid, "tiny", config, lora=LORA) | changes


@field("supervised_fine_tune hyperparam_search_config object", operation="supervised_fine_tune")
@field("preference_optimize hyperparam_search_config object", operation="preference_optimize")
def hyperparam_search_config(lab: Lab, operation: str) -> None:
    """{} trains once, with the request's own rate; a search trains with each of its rates and keeps the better one."""
    plain = _request(lab, operation)
    lab.call("POST", PATHS[operation], plain)
    lab.run_job(plain["job_uuid"])
    assert max(point["lr"] for point in lab.resources.jobs.metrics(plain["job_uuid"]) if "lr" in point) == 1e-2

    space = {RATE: {"type": "categorical", "choices": [1e-7, 2e-2]}}
    searched = _request(lab, operation, hyperparam_search_config={"space": space, "sampler": {"type": "grid"}})
    search_id = searched["job_uuid"]
    lab.call("POST", PATHS[operation], searched)
    progress, search = start_search(lab.resources)
    while not search.advance():
        run_next(lab.resources)
    search.keep_best()
    complete(lab.resources, progress)

    answer = lab.call("GET", f"/v1alpha/post-training/jobs/{search_id}/trials")
    tried = {}
    for trial in answer["data"]:
        rate = trial["parameters"]["/training_config/optimizer_config/lr"]
        series = lab.resources.jobs.metrics(trial["job_uuid"])
        assert max(point["lr"] for point in series if "lr" in point) == rate
        tried[rate] = trial
    assert sorted(tried) == [1e-7, 2e-2]
    assert tried[2e-2]["value"] < tried[1e-7]["value"]
    assert answer["best"] == tried[2e-2]["number"]
    (kept,) = lab.resources.checkpoints.of_job(search_id)
    (best,) = lab.resources.checkpoints.of_job(tried[2e-2]["job_uuid"])
    (other,) = lab.resources.checkpoints.of_job(tried[1e-7]["job_uuid"])
    assert kept.sha256 == best.sha256 != other.sha256

    unknown = _request(lab, operation, hyperparam_search_config={"space": space, "trials": 3})
    pointer, _ = lab.refusal("POST", PATHS[operation], unknown)
    assert pointer == "/hyperparam_search_config/trials"


@field("supervised_fine_tune logger_config object", operation="supervised_fine_tune")
@field("preference_optimize logger_config object", operation="preference_optimize")
def logger_config(lab: Lab, operation: str) -> None:
    """{} writes to the job's own series alone; a logger gets the same under the run's name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = lab.resources.settings.data_dir / "loggers" / "tensorboard"
    before = set(folder.glob("*/*"))
    plain = _request(lab, operation)
    lab.call("POST", PATHS[operation], plain)
    lab.run_job(plain["job_uuid"])
    assert set(folder.glob("*/*")) == before

    name = lab.new_id("run")
    logged = _request(lab, operation, logger_config={"loggers": ["tensorboard"], "run_name": name, "project": "lab"})
    lab.call("POST", PATHS[operation], logged)
    lab.run_job(logged["job_uuid"])
    (run,) = set(folder.glob("*/*")) - before
    assert run.name.startswith(name)
    assert run.parent.name.startswith("lab-")
    read = EventAccumulator(str(run)).Reload()
    own = [point["step"] for point in lab.resources.jobs.metrics(logged["job_uuid"]) if "loss" in point]
    assert [event.step for event in read.Scalars("loss")] == own == [1, 2]

    pointer, _ = lab.refusal("POST", PATHS[operation], _request(lab, operation, logger_config={"logger": "x"}))
    assert pointer == "/logger_config/logger"

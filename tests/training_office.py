"""Datasets and requests for training tests, and a way to do a job in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paddock.datasets.registration import register_entry
from paddock.datasets.sources import Access
from paddock.jobs import states
from paddock.jobs.job import Job
from paddock.jobs.progress import Progress
from paddock.post_training import job as training_job
from paddock.post_training.schemas import PreferenceOptimizeRequest, SupervisedFineTuneRequest
from paddock.wiring import Resources

if TYPE_CHECKING:
    from paddock.post_training.search import Search


def add_dataset(resources: Resources, dataset_id: str, rows: list[dict[str, Any]]) -> None:
    entry = {"dataset_id": dataset_id, "purpose": "post-training/messages", "source": {"type": "rows", "rows": rows}}
    register_entry(resources.datasets, Access(), entry)


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i} " * (1 + i % 4)}]}
        for i in range(count)
    ]


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"say {i}", "chosen": f"{i} it is", "rejected": "no" * (1 + i % 3)} for i in range(count)]


_DATA_FIELDS = ("batch_size", "packed", "train_on_input", "validation_dataset_id")


def training(dataset_id: str, **more: Any) -> dict[str, Any]:
    data = {"dataset_id": dataset_id, "batch_size": 4, "shuffle": True, "data_format": "dialog"}
    data |= {key: more.pop(key) for key in list(more) if key in _DATA_FIELDS}
    return {
        "n_epochs": 2,
        "max_steps_per_epoch": -1,
        "data_config": data,
        "optimizer_config": {"optimizer_type": "adamw", "lr": 1e-2, "weight_decay": 0.0, "num_warmup_steps": 2},
        "dtype": "fp32",
    } | more


LORA = {
    "type": "LoRA",
    "lora_attn_modules": ["q_proj", "v_proj", "output_proj"],
    "apply_lora_to_mlp": True,
    "apply_lora_to_output": False,
    "rank": 4,
    "alpha": 8,
}


def sft_request(job_uuid: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "job_uuid": job_uuid,
        "model": "tiny",
        "algorithm_config": LORA,
        "training_config": config,
        "hyperparam_search_config": {},
        "logger_config": {},
    } | more


def dpo_request(job_uuid: str, model: str, config: dict[str, Any], **algorithm: Any) -> dict[str, Any]:
    return {
        "job_uuid": job_uuid,
        "finetuned_model": model,
        "algorithm_config": {"beta": 0.1, "loss_type": "sigmoid"} | algorithm,
        "training_config": config,
        "hyperparam_search_config": {},
        "logger_config": {},
    }


def submit(resources: Resources, request: dict[str, Any]) -> Job:
    own = (
        resources.settings,
        resources.jobs,
        resources.datasets,
        resources.checkpoints,
        resources.inference,
        resources.scores,
    )
    if "finetuned_model" in request:
        return training_job.submit_preference(PreferenceOptimizeRequest.model_validate(request), *own)
    return training_job.submit_supervised(SupervisedFineTuneRequest.model_validate(request), *own)


def run(resources: Resources, request: dict[str, Any], *, on_start: Callable[[Progress], None] | None = None) -> Job:
    """Submit a job and do one attempt at it in this process, as `runners` does in one of its own."""
    submit(resources, request)
    return run_next(resources, on_start=on_start)


def run_next(resources: Resources, *, on_start: Callable[[Progress], None] | None = None) -> Job:
    """Do one attempt at the oldest job that waits, in this process."""
    job = resources.jobs.claim(worker_id="test", lease_seconds=600)
    assert job is not None
    progress = Progress(job, resources.jobs)
    if on_start is not None:
        on_start(progress)
    training_job.run(progress, resources.settings, resources.datasets, resources.checkpoints, resources.inference)
    return complete(resources, progress)


def stop_at(step: int) -> Callable[[Progress], None]:
    """What makes an attempt stop behind this step, given as `on_start`."""

    def prepare(progress: Progress) -> None:
        note = progress.note_metrics

        def note_and_stop(at: int, **values: Any) -> None:
            note(at, **values)
            if at == step:
                progress.ask_to_stop()

        progress.note_metrics = note_and_stop  # type: ignore[method-assign]  # to look on

    return prepare


def complete(resources: Resources, progress: Progress) -> Job:
    """End a job whose work is done."""
    job = progress.job
    with progress.write() as connection:
        progress.flush_metrics(connection)
        states.complete(connection, resources.database.now(), job.job_id, job.attempt)
    return resources.jobs.get(job.job_id)


def start_search(resources: Resources) -> tuple[Progress, Search]:
    """Begin an attempt at the oldest search that waits."""
    from paddock.post_training.search import Search  # and with it Optuna, which a submission does without

    job = resources.jobs.claim(worker_id="test", lease_seconds=600, coordinators=True)
    assert job is not None
    progress = Progress(job, resources.jobs)
    stores = resources.jobs, resources.trials, resources.checkpoints
    return progress, Search(progress, *stores, resources.inference, resources.scores)


def run_search(resources: Resources, request: dict[str, Any]) -> Job:
    """Submit a search and do it to its end, with its trials one by one, in this process."""
    submit(resources, request)
    progress, search = start_search(resources)
    while not search.advance():
        run_next(resources)
    search.keep_best()
    return complete(resources, progress)

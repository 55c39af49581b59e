"""Training jobs: what is checked before one is taken on, and what its process does.

The checks cost no tensors: the server calls them. `run` is called in the job's own process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddock.datasets.store import DatasetStore, StoredDataset
from paddock.errors import FieldError, InvalidRequestError
from paddock.inference.inference import Inference
from paddock.jobs.progress import Progress
from paddock.jobs.store import DatasetVersion, Job, JobStore, NewJob
from paddock.post_training import checks, config, rows, source
from paddock.post_training.config import Config
from paddock.post_training.schemas import PreferenceOptimizeRequest, SupervisedFineTuneRequest
from paddock.post_training.store import CheckpointStore
from paddock.settings import Settings

log = logging.getLogger("paddock.training")

SFT, DPO = "sft", "dpo"
KINDS = (SFT, DPO)

_MODEL_POINTERS = {SFT: "/model", DPO: "/finetuned_model"}
_DATA_POINTER = "/training_config/data_config"

_NUM_ROWS_CHECKED = 1000
"""Rows that are read at submission; the job reads them all before it loads the model."""


def submit_supervised(
    request: SupervisedFineTuneRequest,
    settings: Settings,
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
) -> Job:
    """Take on a supervised fine-tuning. Raises `InvalidRequestError`, or `ConflictError` if another job bears its id."""
    if request.model is None:
        if settings.default_training_model is None:
            raise InvalidRequestError(
                "The request names no model to train, and there is no `default_training_model` in the settings.",
                pointer="/model",
            )
        # Part of the request from here on: another default later must not change what this job trains.
        request = request.model_copy(update={"model": settings.default_training_model})
    new = NewJob(request.job_uuid, SFT, request.model_dump(mode="json"))
    if jobs.find(new.job_id) is not None:
        return jobs.submit(new)
    _raise(checks.supervised(request))
    return _submit(new, config.of_supervised(request), jobs, datasets, checkpoints, inference)


def submit_preference(
    request: PreferenceOptimizeRequest,
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
) -> Job:
    """Take on a preference optimisation. Raises `InvalidRequestError`, or `ConflictError` if another job bears its id."""
    new = NewJob(request.job_uuid, DPO, request.model_dump(mode="json"))
    if jobs.find(new.job_id) is not None:
        return jobs.submit(new)
    _raise(checks.preference(request))
    return _submit(new, config.of_preference(request), jobs, datasets, checkpoints, inference)


def _submit(
    new: NewJob,
    asked: Config,
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
) -> Job:
    pointer = _MODEL_POINTERS[new.kind]
    start = source.resolve(inference.find_for(asked.model_id, pointer), checkpoints.root, pointer)
    if start.local_base is not None:
        _raise(source.check(start, start.local_base, asked, pointer))
    _check_folder(asked.checkpoint_dir, checkpoints.root)
    _check_identifiers(asked.job_uuid, inference)
    used = {asked.dataset_id: _check_dataset(datasets, asked.dataset_id, asked, "dataset_id")}
    if asked.validation_dataset_id is not None:
        checked = _check_dataset(datasets, asked.validation_dataset_id, asked, "validation_dataset_id")
        used[asked.validation_dataset_id] = checked
    reads: list[DatasetVersion] = []
    with jobs.database.write() as connection:
        for dataset in used.values():
            # Nobody can remove it from here on: first for this transaction, then for the job that reads it.
            found = datasets.find(dataset.dataset_id, connection)
            if found is None or found.generation != dataset.generation:
                raise InvalidRequestError(f"The dataset {dataset.dataset_id} was removed.", pointer=_DATA_POINTER)
            # As it is now: a dataset that was being read when the job was checked may be whole by now.
            reads.append(datasets.version(found))
        return jobs.submit(NewJob(new.job_id, new.kind, new.request, reads=tuple(reads)), connection)


def _check_dataset(datasets: DatasetStore, dataset_id: str, asked: Config, field: str) -> StoredDataset:
    pointer = f"{_DATA_POINTER}/{field}"
    dataset = datasets.get_for(dataset_id, pointer)
    dataset.check_whole(pointer)
    if dataset.num_rows == 0 and dataset.state != "reading":
        raise InvalidRequestError(f"The dataset {dataset_id} has no rows.", pointer=pointer)
    read: Callable[[rows.Row, str], Any] = rows.conversation if asked.preference is None else rows.preference
    version = datasets.version(dataset)
    starts = [(0, _NUM_ROWS_CHECKED)]
    if dataset.first_incomplete_row is not None:
        # Its place was noted when it came in.
        starts.append((dataset.first_incomplete_row, 1))
    for start, limit in starts:
        for index, row in enumerate(datasets.read(version, start, limit), start):
            with rows.naming(dataset_id, index, pointer):
                read(row, asked.data_format)
    return dataset


def _check_folder(checkpoint_dir: str | None, root: Path) -> None:
    if checkpoint_dir is None:
        return
    is_within = checkpoint_dir.isprintable() and (root / checkpoint_dir).resolve().is_relative_to(root)
    if not is_within:
        raise InvalidRequestError(
            "checkpoint_dir must be a folder below the server's checkpoint root, such as `team/run-1`.",
            pointer="/checkpoint_dir",
        )


def _check_identifiers(job_uuid: str, inference: Inference) -> None:
    taken = [m.model_id for m in inference.models.list() if m.model_id.startswith(f"{job_uuid}:epoch-")]
    if taken:
        raise InvalidRequestError(
            f"The model {taken[0]} bears the id that a checkpoint of this job would have. Choose another job_uuid.",
            pointer="/job_uuid",
        )


def _raise(errors: list[FieldError]) -> None:
    if errors:
        detail = "; ".join(f"{error.pointer}: {error.message.removesuffix('.')}" for error in errors)
        raise InvalidRequestError(detail, errors=tuple(errors))


def configuration(job: Job) -> Config:
    """What a job was submitted with."""
    if job.kind == SFT:
        return config.of_supervised(SupervisedFineTuneRequest.model_validate(job.request))
    return config.of_preference(PreferenceOptimizeRequest.model_validate(job.request))


def run(
    progress: Progress,
    settings: Settings,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
) -> None:
    """Do one attempt at a training job, from where the last one left it.

    Raises `StopRequestedError` once the work is resumable after a request to stop, and `LostLeaseError`."""
    job, asked = progress.job, configuration(progress.job)
    checkpoints.drop_dead_resume_points()
    if len(checkpoints.of_job(job.job_id)) == asked.num_epochs:
        return  # the last attempt was lost between its last checkpoint and the end

    import torch
    import transformers

    from paddock import hub
    from paddock.post_training.attempt import Attempt
    from paddock.post_training.checkpoints import remove_unpublished
    from paddock.post_training.recipes import dpo, sft

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(settings.num_threads)
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise InvalidRequestError("The setting `device` is `cuda`, and torch finds no such device here.")
    device = torch.device("cuda" if has_gpu and settings.device != "cpu" else "cpu")
    pointer = _MODEL_POINTERS[job.kind]
    start = source.resolve(inference.find_for(asked.model_id, pointer), checkpoints.root, pointer)
    folder = hub.fetch(start.base)
    _raise(source.check(start, folder, asked, pointer))
    attempt = Attempt(progress, asked, start, folder, datasets, checkpoints, device)
    remove_unpublished(attempt)
    recipes = {SFT: sft.fine_tune, DPO: dpo.optimize_preferences}
    recipes[job.kind](attempt)

"""Training jobs: what is checked before one is taken on, and what its process does.

The checks cost no tensors: the server calls them. `run` is called in the job's own process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.datasets.store import DatasetStore, StoredDataset
from paddock.errors import FieldError, InvalidRequestError
from paddock.inference.inference import Inference
from paddock.jobs.job import DatasetVersion, Job, NewJob
from paddock.jobs.progress import Progress
from paddock.jobs.store import JobStore
from paddock.post_training import allocation, checks, config, machine, rows, search_space, source, trial_store
from paddock.post_training.config import Config
from paddock.post_training.schemas import PreferenceOptimizeRequest, SupervisedFineTuneRequest
from paddock.post_training.scores import BenchmarkScores
from paddock.post_training.search_config import BenchmarkObjective, SearchConfig
from paddock.post_training.search_space import Request
from paddock.post_training.store import CheckpointStore
from paddock.settings import Settings

if TYPE_CHECKING:  # only the job's own process loads tensors
    import torch

    from paddock.post_training.team import Team

log = logging.getLogger("paddock.training")

SFT, DPO, SEARCH = "sft", "dpo", "search"
KINDS = (SFT, DPO, SEARCH)

_MODEL_POINTERS = {SFT: "/model", DPO: "/finetuned_model"}
_DATA_POINTER = "/training_config/data_config"

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 3500
"""Of a folder's name and of its path, which those of the checkpoint's files are added to: Linux takes 4096 bytes."""

_NUM_ROWS_CHECKED = 1000
"""Rows that are read at submission; the job reads them all before it loads the model."""


def submit_supervised(
    request: SupervisedFineTuneRequest,
    settings: Settings,
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
    scores: BenchmarkScores,
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
    check, configure = partial(checks.supervised, settings=settings), config.of_supervised
    return _submit(request, SFT, check, configure, jobs, datasets, checkpoints, inference, scores)


def submit_preference(
    request: PreferenceOptimizeRequest,
    settings: Settings,
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
    scores: BenchmarkScores,
) -> Job:
    """Take on a preference optimisation. Raises `InvalidRequestError`, or `ConflictError` if another job bears its id."""
    check, configure = partial(checks.preference, settings=settings), config.of_preference
    return _submit(request, DPO, check, configure, jobs, datasets, checkpoints, inference, scores)


def _submit(
    request: Request,
    kind: str,
    check: Callable[[Request], list[FieldError]],
    configure: Callable[[Request], Config],
    jobs: JobStore,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
    scores: BenchmarkScores,
) -> Job:
    search = search_space.read(request)
    new = _new_job(request, kind, search)
    if jobs.find(new.job_id) is not None:
        return jobs.submit(new)
    # What is checked: the request itself, or those at the ends of a search's space.
    asked = [request] if search is None else search_space.variants(search, request)
    _raise([error for variant in asked for error in check(variant)], search)
    variants = [configure(variant) for variant in asked]
    first = variants[0]
    pointer = _MODEL_POINTERS[kind]
    start = source.resolve(inference.find_for(first.model_id, pointer), checkpoints.root, pointer)
    if start.local_base is not None:
        _raise([e for variant in variants for e in source.check(start, start.local_base, variant, pointer)], search)
    _check_folder(first.checkpoint_dir, checkpoints.root)
    _check_identifiers(new, jobs, inference)
    reads: dict[str, DatasetVersion] = {}
    for variant in {variant.data_format: variant for variant in variants}.values():
        reads |= _check_datasets(datasets, variant, start.local_base)
    if search is not None and isinstance(search.objective, BenchmarkObjective):
        # Of the model that is trained from, as those will be that are made of it.
        objective = search.objective.model_dump()
        scored_on = scores.check(first.model_id, **objective, pointer=f"{search_space.PLACE}/objective")
        reads.setdefault(scored_on.dataset_id, scored_on)
    pinned: list[DatasetVersion] = []
    with jobs.database.write() as connection:
        for version in reads.values():
            # Nobody can remove it from here on: first for this transaction, then for the job that reads it.
            found = datasets.find(version.dataset_id, connection)
            if found is None or found.generation != version.generation:
                raise InvalidRequestError(f"The dataset {version.dataset_id} was removed.", pointer=_DATA_POINTER)
            # As it is now: a dataset that was being read when the job was checked may be whole by now.
            pinned.append(datasets.version(found))
        return jobs.submit(replace(new, reads=tuple(pinned)), connection)


def _new_job(request: Request, kind: str, search: SearchConfig | None) -> NewJob:
    asked = request.model_dump(mode="json")
    if search is None:
        return NewJob(request.job_uuid, kind, asked)
    # Named here, the benchmark cannot be removed before the search has ended.
    benchmark_id = search.objective.benchmark_id if isinstance(search.objective, BenchmarkObjective) else None
    return NewJob(request.job_uuid, SEARCH, {"trains": kind, "request": asked}, benchmark_id)


def _check_datasets(datasets: DatasetStore, asked: Config, folder: Path | None) -> dict[str, DatasetVersion]:
    """The versions that are trained and validated on. `folder` has the model's files, where they are here."""
    check = _row_check(asked, folder)
    used = [_check_dataset(datasets, asked.dataset_id, check, "dataset_id")]
    if asked.validation_dataset_id is not None:
        used.append(_check_dataset(datasets, asked.validation_dataset_id, check, "validation_dataset_id"))
    return {dataset.dataset_id: datasets.version(dataset) for dataset in used}


def _row_check(asked: Config, folder: Path | None) -> Callable[[rows.Row], None]:
    """What raises `RowError` for a row that the job could not use."""
    from paddock.post_training.preview import Preview  # and with it a template engine

    preview = None if folder is None else Preview(folder, asked)

    def check_conversation(row: rows.Row) -> None:
        conversation = rows.conversation(row, asked.data_format)
        if preview is not None:
            preview.check(conversation)

    def check_pair(row: rows.Row) -> None:
        pair = rows.preference(row, asked.data_format)
        if preview is not None:
            with rows.within("chosen"):
                preview.check(pair.chosen)
            with rows.within("rejected"):
                preview.check(pair.rejected)

    return check_conversation if asked.preference is None else check_pair


def _check_dataset(
    datasets: DatasetStore, dataset_id: str, check: Callable[[rows.Row], None], field: str
) -> StoredDataset:
    pointer = f"{_DATA_POINTER}/{field}"
    dataset = datasets.get_for(dataset_id, pointer)
    dataset.check_whole(pointer)
    if dataset.num_rows == 0 and dataset.state != "reading":
        raise InvalidRequestError(f"The dataset {dataset_id} has no rows.", pointer=pointer)
    version = datasets.version(dataset)
    starts = [(0, _NUM_ROWS_CHECKED)]
    if dataset.first_incomplete_row is not None:
        # Its place was noted when it came in.
        starts.append((dataset.first_incomplete_row, 1))
    for start, limit in starts:
        for index, row in enumerate(datasets.read(version, start, limit), start):
            with rows.naming(dataset_id, index, pointer):
                check(row)
    return dataset


def _check_folder(checkpoint_dir: str | None, root: Path) -> None:
    if checkpoint_dir is None:
        return
    pointer = "/checkpoint_dir"
    is_within = checkpoint_dir.isprintable() and (root / checkpoint_dir).resolve().is_relative_to(root)
    if not is_within:
        message = "checkpoint_dir must be a folder below the server's checkpoint root, such as `team/run-1`."
        raise InvalidRequestError(message, pointer=pointer)
    folder = root / checkpoint_dir
    if len(bytes(folder)) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in folder.parts):
        raise InvalidRequestError("checkpoint_dir is longer than a file system takes it.", pointer=pointer)
    if any(path.is_file() for path in (folder, *folder.parents)):
        raise InvalidRequestError("checkpoint_dir leads through a file, which holds no folders.", pointer=pointer)


def _check_identifiers(new: NewJob, jobs: JobStore, inference: Inference) -> None:
    """Raise `InvalidRequestError` unless the ids that the job will give its checkpoints and trials are free."""
    prefixes = [f"{new.job_id}:epoch-"]
    if new.kind == SEARCH:
        prefixes.append(f"{new.job_id}:trial-")
        if jobs.has_prefix(prefixes[-1]):
            message = "There is a job whose id begins as those of this search's trials would. Choose another job_uuid."
            raise InvalidRequestError(message, pointer="/job_uuid")
    taken = [m.model_id for m in inference.models.list() if m.model_id.startswith(tuple(prefixes))]
    if taken:
        raise InvalidRequestError(
            f"The model {taken[0]} bears the id that a checkpoint of this job would have. Choose another job_uuid.",
            pointer="/job_uuid",
        )
    search_id = trial_store.searched_by(new.job_id)
    owner = None if search_id is None else jobs.find(search_id)
    if owner is not None and owner.kind == SEARCH:
        message = f"Such ids are those of the search {owner.job_id}'s trials. Choose another job_uuid."
        raise InvalidRequestError(message, pointer="/job_uuid")


def _raise(errors: list[FieldError], search: SearchConfig | None = None) -> None:
    """Refuse a request; what is wrong with a value that a search tries is named in its space."""
    if search is not None:
        errors = search_space.blame(search, errors)
    if errors:
        detail = "; ".join(f"{error.pointer}: {error.message.removesuffix('.')}" for error in errors)
        raise InvalidRequestError(detail, errors=tuple(errors))


def configuration(job: Job) -> Config:
    """What a job was submitted with."""
    if job.kind == SFT:
        return config.of_supervised(SupervisedFineTuneRequest.model_validate(job.request))
    return config.of_preference(PreferenceOptimizeRequest.model_validate(job.request))


def leave_out_unused_packages(job: Job) -> None:
    """In a process that does this job alone, before it imports what trains: keep out packages that the job does not use."""
    asked = configuration(job)
    machine.leave_out(*([] if asked.qat else ["torchao"]), *([] if asked.quantizes_base else ["bitsandbytes"]))


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

    from paddock.post_training import team
    from paddock.post_training.loggers.mirror import mirrored

    device = _device(settings)
    if asked.dtype == "float16" and device.type == "cpu":
        raise InvalidRequestError("fp16 is for a GPU, and torch finds none here.", pointer="/training_config/dtype")
    log_file = checkpoints.log_file(job.job_id, job.attempt)
    mirror = mirrored(job, JobStore(progress.database), settings)
    with mirror, team.gathered(settings, job, device, log_file) as the_team:
        _train(progress, asked, the_team, datasets, checkpoints, inference)


def work_along(
    progress: Progress,
    settings: Settings,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
    *,
    rank: int,
    meeting: Path,
) -> None:
    """The same as a worker that the job's process started, to compute along; it writes nothing."""
    from paddock.post_training import team

    asked = configuration(progress.job)
    with team.joined(rank, settings, _device(settings), meeting) as the_team:
        _train(progress, asked, the_team, datasets, checkpoints, inference)


def _device(settings: Settings) -> torch.device:
    """Where this process trains, after setting up the libraries."""
    import torch

    torch.set_num_threads(settings.num_threads)
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise InvalidRequestError("The setting `device` is `cuda`, and torch finds no such device here.")
    is_cuda = has_gpu and settings.device != "cpu"
    if not is_cuda:
        allocation.keep_freed()
    if is_cuda and settings.training_workers > torch.cuda.device_count():
        raise InvalidRequestError(
            f"The setting `training_workers` is {settings.training_workers}, and there are {torch.cuda.device_count()} GPUs."
        )
    return torch.device("cuda" if is_cuda else "cpu")


def _train(
    progress: Progress,
    asked: Config,
    team: Team,
    datasets: DatasetStore,
    checkpoints: CheckpointStore,
    inference: Inference,
) -> None:
    from paddock import hub
    from paddock.post_training.attempt import Attempt
    from paddock.post_training.checkpoints import remove_unpublished
    from paddock.post_training.recipes import dpo, sft

    kind = progress.job.kind
    pointer = _MODEL_POINTERS[kind]
    start = source.resolve(inference.find_for(asked.model_id, pointer), checkpoints.root, pointer)
    folder = hub.fetch(start.base)
    _raise(source.check(start, folder, asked, pointer))
    attempt = Attempt(progress, asked, start, folder, datasets, checkpoints, team)
    if team.is_first:
        remove_unpublished(attempt)
    recipes = {SFT: sft.fine_tune, DPO: dpo.optimize_preferences}
    recipes[kind](attempt)

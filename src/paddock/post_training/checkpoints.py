"""A checkpoint's files, in the layout of the Hugging Face hub: writing, hashing, syncing, publishing.

Each attempt writes below a folder of its own, so that a process which was thought dead spoils nothing. Everything is on
the disk for good before the fenced transaction that makes the checkpoint and its model exist.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from paddock.inference.engine import Model
from paddock.inference.inference import LOCAL
from paddock.post_training import sharding
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.post_training.config import Config
from paddock.post_training.store import StoredCheckpoint
from paddock.storage.data_dir import folder_name, sync_folder

_LIBRARIES = ("paddock", "torch", "transformers", "peft")
_ONE_FILE = "1000TB"


def job_folder(attempt: Attempt) -> Path:
    """Where the checkpoints of a job lie: below the checkpoint root, in the request's `checkpoint_dir` if it has one."""
    return attempt.checkpoints.root / (attempt.config.checkpoint_dir or "") / folder_name(attempt.job_id)


def identifier(job_id: str, epoch: int) -> str:
    """The id of an epoch's checkpoint, which is also a model's id."""
    return f"{job_id}:epoch-{epoch}"


def publish(
    attempt: Attempt, trainee: Trainee, tokenizer: Any, *, epoch: int, metrics: dict[str, float] | None
) -> None:
    """Write the checkpoint of `epoch` (from 1) and make it exist. Whatever is raised, such as `LostLeaseError` or an error
    for a full disk, nothing is left behind then. A cancel that comes meanwhile waits for it.

    All workers of a team call it, for each has a part of the weights; the first writes."""
    weights = None if attempt.team.is_alone else sharding.whole_weights(trainee.model)
    if not attempt.team.is_first:
        return
    folder = job_folder(attempt) / f"attempt-{attempt.progress.job.attempt}" / f"epoch-{epoch}"
    folder.mkdir(parents=True)
    with attempt.progress.saving():
        try:
            _save_weights(trainee, attempt.config, weights, folder)
            _write_rest(folder, attempt, trainee, tokenizer, epoch, metrics)
            _publish(folder, attempt, trainee, epoch, metrics)
        except BaseException:
            shutil.rmtree(folder)
            raise


def _write_rest(
    folder: Path, attempt: Attempt, trainee: Trainee, tokenizer: Any, epoch: int, metrics: dict[str, float] | None
) -> None:
    tokenizer.save_pretrained(folder)
    record = _record(attempt, epoch, metrics)
    (folder / "training_request.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    (folder / "README.md").write_text(_card(attempt, trainee, epoch, metrics))
    _sync(folder, attempt.checkpoints.root)


def _publish(folder: Path, attempt: Attempt, trainee: Trainee, epoch: int, metrics: dict[str, float] | None) -> None:
    name = identifier(attempt.job_id, epoch)
    relative = folder.relative_to(attempt.checkpoints.root).as_posix()
    checkpoint = StoredCheckpoint(name, attempt.job_id, epoch, relative, _sha256(folder), metrics, time.time())
    model = Model(
        model_id=name,
        provider_id=LOCAL,
        provider_model_id=relative,
        metadata={"base_model": attempt.config.model_id, "epoch": epoch},
        job_id=attempt.job_id,
        base_model=attempt.source.base if trainee.is_adapter else None,
    )
    with attempt.progress.write() as connection:
        attempt.checkpoints.publish(connection, checkpoint, model)
        attempt.progress.flush_metrics(connection)


def remove_unpublished(attempt: Attempt) -> None:
    """Delete what earlier attempts wrote and did not live to publish."""
    published = {checkpoint.path for checkpoint in attempt.checkpoints.of_job(attempt.job_id)}
    for number in range(1, attempt.progress.job.attempt):
        for folder in job_folder(attempt).glob(f"attempt-{number}/epoch-*"):
            if folder.relative_to(attempt.checkpoints.root).as_posix() not in published:
                shutil.rmtree(folder)


def _save_weights(trainee: Trainee, config: Config, weights: dict[str, Tensor] | None, folder: Path) -> None:
    """`weights` are those put together from several workers."""
    if config.qat is not None:
        from paddock.post_training import qat

        qat.save(trainee.model, config.qat, folder)
        return
    if not trainee.is_adapter:
        trainee.model.save_pretrained(folder, state_dict=weights, max_shard_size=_ONE_FILE)
        return
    # Not the library's own save: that one asks the hub about the base, and writes a model card of its own.
    tensors = get_peft_model_state_dict(trainee.model, state_dict=weights, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    peft_config = copy.copy(trainee.model.peft_config["default"])
    peft_config.inference_mode = True
    peft_config.save_pretrained(folder)


def _record(attempt: Attempt, epoch: int, metrics: dict[str, float] | None) -> dict[str, Any]:
    job = attempt.progress.job
    return {
        "kind": job.kind,
        "request": job.request,
        "datasets": [vars(read) for read in job.reads],
        "epoch": epoch,
        "metrics": metrics,
        "versions": {library: version(library) for library in _LIBRARIES},
    }


def _card(attempt: Attempt, trainee: Trainee, epoch: int, metrics: dict[str, float] | None) -> str:
    job = attempt.progress.job
    what = "preference optimisation" if job.kind == "dpo" else "supervised fine-tuning"
    is_hub_id = attempt.source.local_base is None
    header = [
        "---",
        *([f"base_model: {attempt.source.base}"] if is_hub_id else []),
        f"library_name: {'peft' if trainee.is_adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        "---",
    ]
    lines = [
        f"# {identifier(job.job_id, epoch)}",
        "",
        f"{'An adapter on' if trainee.is_adapter else 'A model trained from'} `{attempt.config.model_id}`, made by "
        f"{what} with Paddock; the weights after epoch {epoch} of {attempt.config.num_epochs}.",
        "",
        *(
            f"- dataset `{read.dataset_id}`: {read.num_rows} rows, generation {read.generation}"
            for read in attempt.progress.job.reads
        ),
        *(f"- {name}: {value:.6g}" for name, value in (metrics or {}).items()),
        "",
        "The request that made it, and the versions of the libraries, are in `training_request.json`.",
        "",
    ]
    return "\n".join(header + lines)


def _sha256(folder: Path) -> str:
    """Of the tensor file; of several, of their contents one after the other."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _sync(folder: Path, root: Path) -> None:
    """Make all files in `folder`, and the names on the way down from `root`, survive a loss of power."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as content:
                os.fsync(content.fileno())
    while True:
        sync_folder(folder)
        if folder == root:
            return
        folder = folder.parent

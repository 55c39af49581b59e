"""Where a job goes on after a kill: everything that the next step depends on, kept so that it comes out bit for bit.

One rolling state a job, written to a new folder and synced; then its row replaces the one before in a fenced
transaction, and the old folder goes. The order of the rows need not be kept: it follows from the seed (`batches`).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from paddock.errors import LostLeaseError
from paddock.post_training import sharding
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.storage.data_dir import sync_folder

log = logging.getLogger("paddock.training")

SAVE_EVERY_SECONDS = 15.0
_MAX_SHARE_OF_TIME = 0.05
"""Large states take long to write: they are saved as much more seldom as it takes to stay below this share."""

_FILE = "state.pt"


@dataclass
class State:
    """How far training is. `epoch` and `step_in_epoch` count what is done, `step` over all epochs; `loss_sum` over
    `num_losses` is the mean training loss of the epoch so far. `fixed` is what was computed before the first step."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    num_losses: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    is_exact: bool = True
    fixed: dict[str, Tensor] = field(default_factory=dict)

    def next_epoch(self) -> None:
        self.epoch += 1
        self.step_in_epoch = 0
        self.loss_sum = 0.0
        self.num_losses = 0


class ResumePoints:
    """Saves the state of one attempt, now and then."""

    def __init__(self, attempt: Attempt, trainee: Trainee, optimizer: Any, *, digest: str) -> None:
        """`digest` is of the tokenised rows: a chat template that prints the date gives others tomorrow."""
        self._attempt = attempt
        self._trainee = trainee
        self._optimizer = optimizer
        self._surroundings = _surroundings(attempt) | {"rows": digest}
        self._saved_at = time.monotonic()
        self._pause_seconds = SAVE_EVERY_SECONDS

    def save_if_due(self, state: State) -> None:
        if self._attempt.team.told(time.monotonic() - self._saved_at >= self._pause_seconds):
            self.save(state)

    def save(self, state: State) -> None:
        """Keep `state`, the trained weights, the optimiser and the random numbers to come. Raises `LostLeaseError`.

        All workers of a team call it, for each has a part; the first writes."""
        started = time.monotonic()
        attempt = self._attempt
        kept = self._kept(state)
        if not attempt.team.is_first:
            return
        root = attempt.checkpoints.resume_root(attempt.job_id)
        name = f"attempt-{attempt.progress.job.attempt}-epoch-{state.epoch}-step-{state.step}"
        folder = root / name
        if not folder.exists():
            self._write(kept, name)
        try:
            with attempt.progress.write() as connection:
                attempt.checkpoints.set_resume_point(connection, attempt.job_id, step=state.step, path=name)
                attempt.progress.flush_metrics(connection)
        except LostLeaseError:
            shutil.rmtree(folder)
            raise
        for other in root.iterdir():
            # A process that was thought dead and wakes up here must not delete its successor's.
            if other != folder and _attempt_number(other.name) <= attempt.progress.job.attempt:
                shutil.rmtree(other)
        self._saved_at = time.monotonic()
        self._pause_seconds = max(SAVE_EVERY_SECONDS, (self._saved_at - started) / _MAX_SHARE_OF_TIME)

    def _kept(self, state: State) -> dict[str, Any]:
        return {
            "state": asdict(state),
            "weights": {name: sharding.whole(weight.detach()) for name, weight in self._trainee.trained.items()},
            "optimizer": sharding.whole_state(self._optimizer),
            "scaler": self._trainee.scaler.state_dict(),
            "random": self._attempt.team.gather(_random_states(self._attempt.device)),
            "surroundings": self._surroundings,
        }

    def _write(self, kept: dict[str, Any], name: str) -> None:
        root = self._attempt.checkpoints.resume_root(self._attempt.job_id)
        # Under another name until it is whole, so that a folder of this name always is.
        unfinished = root / f"{name}.unfinished"
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            with (unfinished / _FILE).open("wb") as file:
                torch.save(kept, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            # Such as a full disk: nothing half done is left on it.
            shutil.rmtree(unfinished)
            raise
        sync_folder(unfinished)
        unfinished.rename(root / name)
        for folder in (root, root.parent, root.parent.parent):
            sync_folder(folder)

    def load(self) -> State | None:
        """The state that the job goes on from, after putting it into model, optimiser and random generators; None for
        a job that begins."""
        folder = self._attempt.checkpoints.resume_point(self._attempt.job_id)
        if folder is None:
            return None
        kept = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
        trained = self._trainee.trained
        assert trained.keys() == kept["weights"].keys()
        with torch.no_grad():
            for name, weight in kept["weights"].items():
                trained[name].copy_(sharding.part_of(weight, trained[name]))
        sharding.load_state(self._optimizer, kept["optimizer"])
        self._trainee.scaler.load_state_dict(kept["scaler"])
        state = State(**kept["state"])
        before = kept["surroundings"]
        # The order of additions, and so the last bits, follows the number of threads.
        torch.set_num_threads(before["num_threads"])
        self._surroundings["num_threads"] = before["num_threads"]
        differing = [name for name, value in before.items() if self._surroundings.get(name) != value]
        if differing:
            log.warning("The job does not go on bit for bit: what differs from before is %s.", ", ".join(differing))
            state.is_exact = False
        _set_random_states(kept["random"][self._attempt.team.rank % len(kept["random"])], self._attempt.device)
        log.info("Going on after step %d, in epoch %d.", state.step, state.epoch + 1)
        return state


def _attempt_number(folder_name: str) -> int:
    return int(folder_name.split("-")[1])


def _surroundings(attempt: Attempt) -> dict[str, Any]:
    """What the same computation needs to come out the same, bit for bit."""
    config, device = attempt.config, attempt.device
    quantizers = [*(["torchao"] if config.qat else []), *(["bitsandbytes"] if config.quantizes_base else [])]
    return {
        "num_workers": attempt.team.size,
        "num_threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **{library: version(library) for library in ("torch", "transformers", "peft", *quantizers)},
    }


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """Torch's generators are the only ones that training draws from once the order of the rows is set."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)

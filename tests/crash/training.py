"""Kills of training jobs in their every phase, with a real server and job processes: a seed says what is trained, and where
it is killed. However often it was, the job must end with the very bytes of one that nobody disturbed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from crash.invariants import require
from live_server import LiveServer
from tiny_models import make_llama
from training_office import LORA, chats, dpo_request, pairs, sft_request, training

NUM_ROWS = 32
_END_SECONDS = 180.0


def _sft(algorithm: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    config = training("chats", validation_dataset_id="chats", max_validation_steps=2, **more)
    return sft_request("", config, algorithm_config=algorithm)


def _dpo(loss_type: str, **more: Any) -> dict[str, Any]:
    config = training("pairs", validation_dataset_id="pairs", max_validation_steps=2, **more)
    return dpo_request("", "tiny", config, loss_type=loss_type, lora=_LORA)


_LORA = LORA | {"dropout": 0.1}
_QAT = {"type": "QAT", "quantizer_name": "int8_dynamic_int4", "group_size": 16}

# Small batches where they are packed or accumulated, for about as many steps as the others take.
TRAININGS: dict[str, dict[str, Any]] = {
    "lora": _sft(_LORA),
    "lora packed": _sft(_LORA, packed=True, batch_size=2, max_seq_len=64),
    "lora accumulated": _sft(_LORA, batch_size=2, gradient_accumulation_steps=2),
    "lora on four bits": _sft(_LORA | {"quantize_base": True}, dtype="bf16"),
    "dora": _sft(_LORA | {"use_dora": True}),
    "full": _sft(None),
    "full bf16": _sft(None, dtype="bf16"),
    "qat": _sft(_QAT),
    "dpo": _dpo("sigmoid"),
    "dpo packed": _dpo("ipo", packed=True, batch_size=1, max_seq_len=128),
    "kto_pair accumulated": _dpo("kto_pair", batch_size=2, gradient_accumulation_steps=2),
}


class Instant(NamedTuple):
    """`where` in a phase: at its first line, at its last, or after a share of the time that it takes. `is_last`: in its
    last occurrence, that of the final checkpoint, rather than in any."""

    phase: str
    where: str
    is_last: bool = False


INSTANTS = (
    Instant("starting", "inside"),
    Instant("loading", "inside"),
    Instant("measuring the reference", "inside"),
    Instant("step", "inside"),
    Instant("writing a resume point", "inside"),
    Instant("writing a resume point", "leave"),  # its folder is there, its row is not
    Instant("row of a resume point", "leave"),  # not committed
    Instant("saving a resume point", "inside"),
    Instant("saving a resume point", "leave"),
    Instant("validation", "inside"),
    Instant("writing weights", "inside"),
    Instant("writing the rest", "inside"),
    Instant("publishing", "enter"),  # all files are there, the row is not
    Instant("row of a checkpoint", "leave"),  # not committed
    Instant("publishing", "leave"),  # committed, and the next epoch not begun
    Instant("writing weights", "inside", is_last=True),
    Instant("publishing", "enter", is_last=True),
    Instant("publishing", "leave", is_last=True),
    Instant("dropping the resume point", "inside"),
    Instant("dropping the resume point", "leave"),
    Instant("ending", "enter"),
)


@dataclass(frozen=True)
class _Undisturbed:
    """What a training comes to, and how long each occurrence of its phases took, in seconds."""

    outcome: dict[str, Any]
    seconds: dict[str, list[float]]


class TrainingWorld:
    """`with TrainingWorld(folder) as world: world.run(seed)`. `kills` counts them by the phase in which they
    struck, `kills_of_training` by what was trained."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kills_folder = folder / "kills"
        self._kills_folder.mkdir(parents=True)
        self._plan = self._kills_folder / "plan.json"
        self._undisturbed: dict[str, _Undisturbed] = {}
        self.kills: Counter[str] = Counter()
        self.kills_of_training: Counter[str] = Counter()
        self._server = LiveServer(
            folder,
            registered_resources=_models(folder),
            lease_seconds=2.0,
            max_lost_attempts=20,
        )

    def __enter__(self) -> TrainingWorld:
        self._environment = dict(os.environ)
        hook = Path(__file__).parent / "training_hook"
        os.environ["PYTHONPATH"] = os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])
        os.environ["TRAINING_KILLS"] = str(self._kills_folder)
        self._server.start()
        for dataset_id, rows in (("chats", chats(NUM_ROWS)), ("pairs", pairs(NUM_ROWS))):
            source = {"type": "rows", "rows": rows}
            body = {"dataset_id": dataset_id, "purpose": "post-training/messages", "source": source}
            self._server.call("POST", "/v1beta/datasets", body)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()
        os.environ.clear()
        os.environ.update(self._environment)

    def run(self, seed: int) -> None:
        """Train what the seed says, with one kill or two on the way. Raises `Violation`."""
        chosen = random.Random(seed)
        self.kill(
            f"killed-{seed}",
            list(TRAININGS)[seed % len(TRAININGS)],
            INSTANTS[seed % len(INSTANTS)],
            chosen,
            victim="server" if chosen.random() < 0.2 else "job",
            again=chosen.random() < 0.3,
        )

    def kill(
        self,
        job_id: str,
        name: str,
        instant: Instant,
        chosen: random.Random,
        *,
        victim: str = "job",
        again: bool = False,
    ) -> None:
        """Train `name` as the job `job_id`, and kill it at the instant; where that training has no such phase, in a step.
        `again`: its second attempt as well, somewhere. Raises `Violation`."""
        undisturbed = self._of(name)
        if instant.phase not in undisturbed.seconds:
            instant = Instant("step", "inside")
        self._write_plan(job_id, 1, instant, undisturbed, chosen, victim)
        self._submit(job_id, name)
        self._wait_for_kill(job_id, 1)
        if again and self._job(job_id)["status"] not in ("completed", "failed"):
            instant = Instant(chosen.choice(["starting", "loading"]), "inside")
            self._write_plan(job_id, 2, instant, undisturbed, chosen, "job")
            self._wait_for_kill(job_id, 2)
        outcome = self._outcome(job_id)
        self._plan.unlink(missing_ok=True)
        self._count_kills(job_id, name)
        for part, expected in undisturbed.outcome.items():
            require(outcome[part] == expected, f"{name}: {part} {outcome[part]}, undisturbed {expected}")

    def _of(self, name: str) -> _Undisturbed:
        """The undisturbed training, done once."""
        if name not in self._undisturbed:
            job_id = "undisturbed-" + name.replace(" ", "-")
            self._submit(job_id, name)
            outcome = self._outcome(job_id)
            seconds: dict[str, list[float]] = {}
            entered: dict[str, float] = {}
            for what, phase, at in self._trace(job_id, 1):
                if what == "enter":
                    entered[phase] = at
                else:
                    seconds.setdefault(phase, []).append(at - entered[phase])
            self._undisturbed[name] = _Undisturbed(outcome, seconds)
        return self._undisturbed[name]

    def _write_plan(
        self,
        job_id: str,
        attempt: int,
        instant: Instant,
        undisturbed: _Undisturbed,
        chosen: random.Random,
        victim: str,
    ) -> None:
        times = undisturbed.seconds[instant.phase]
        occurrence = len(times) if instant.is_last else chosen.randint(1, len(times))
        plan = {
            "job_id": job_id,
            "attempt": attempt,
            "phase": instant.phase,
            "where": instant.where,
            "occurrence": occurrence,
            "seconds": chosen.random() * times[occurrence - 1],
            "victim": victim,
        }
        self._plan.with_suffix(".done").unlink(missing_ok=True)
        self._plan.with_suffix(".new").write_text(json.dumps(plan))
        self._plan.with_suffix(".new").rename(self._plan)

    def _submit(self, job_id: str, name: str) -> None:
        request = TRAININGS[name] | {"job_uuid": job_id}
        operation = "preference-optimize" if "finetuned_model" in request else "supervised-fine-tune"
        self._server.call("POST", f"/v1alpha/post-training/{operation}", request)

    def _wait_for_kill(self, job_id: str, attempt: int) -> None:
        """Wait until an attempt is over, and start the server again if it went along."""
        deadline = time.monotonic() + _END_SECONDS
        while True:
            if self._server.has_ended:
                self._server.start()
            job = self._job(job_id)
            if job["attempt"] > attempt or job["status"] not in ("scheduled", "in_progress"):
                return
            require(time.monotonic() < deadline, f"{job_id} does not end: {job}")
            time.sleep(0.05)

    def _job(self, job_id: str) -> dict[str, Any]:
        while True:
            try:
                found: dict[str, Any] = self._server.call("GET", f"/v1alpha/jobs/{job_id}")
                return found
            except httpx.TransportError:  # killed while it was asked
                self._server.wait()
                self._server.start()

    def _outcome(self, job_id: str) -> dict[str, Any]:
        """What is left of a job that has ended, the hash of its tensor files above all."""
        self._wait_for_kill(job_id, 1_000)
        job = self._job(job_id)
        require(job["status"] == "completed", f"{job_id} {job['status']}: {job}")
        status = self._server.call("GET", "/v1alpha/post-training/job/status", job_uuid=job_id)
        require(status["resources_allocated"]["exact_resume"] is True, f"{job_id}: exact_resume is not true")
        checkpoints = status["checkpoints"]
        series = self._server.call("GET", f"/v1alpha/jobs/{job_id}/metrics")["data"]
        root = self._server.data_dir / "checkpoints"
        folders = [root / checkpoint["path"] for checkpoint in checkpoints]
        there = sorted(folder for folder in folders[0].parents[1].glob("attempt-*/epoch-*"))
        require(there == sorted(folders), f"{job_id}: {there} are there, {folders} are published")
        return {
            "hashes": [_sha256(folder) for folder in folders],
            "metrics": [checkpoint["training_metrics"] for checkpoint in checkpoints],
            "losses": [(point["step"], point["loss"]) for point in series],
        }

    def _count_kills(self, job_id: str, name: str) -> None:
        """By the innermost phase that each attempt but the last had entered and not left."""
        for attempt in range(1, self._job(job_id)["attempt"]):
            inside: list[str] = []
            for what, phase, _ in self._trace(job_id, attempt):
                if what == "enter":
                    inside.append(phase)
                else:
                    inside.remove(phase)
            self.kills[inside[-1] if inside else "between"] += 1
            self.kills_of_training[name] += 1

    def _trace(self, job_id: str, attempt: int) -> list[Any]:
        lines = (self._kills_folder / f"{job_id}.{attempt}.trace").read_text().splitlines()
        return [json.loads(line) for line in lines]


def _models(folder: Path) -> dict[str, Any]:
    model = make_llama(folder / "tiny")
    return {
        "models": [{"model_id": "tiny", "provider_id": "local", "provider_model_id": str(model), "model_type": "llm"}]
    }


def _sha256(folder: Path) -> str:
    (tensors,) = folder.glob("*.safetensors")
    return hashlib.sha256(tensors.read_bytes()).hexdigest()

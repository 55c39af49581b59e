"""Python runs this first in every process of a kill test of training (its folder stands in PYTHONPATH). In a training
job's process it notes in which phase the job is, and when a phase comes that the plan names, it kills.

Phases are functions of the product, told by their names. Resume points are saved every few steps, not every so many
seconds: the same seed must meet the same ones.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STEPS_BETWEEN_RESUME_POINTS = 3

_STARTING = "starting"
_PHASES = {
    "loading": ("paddock.post_training.adapters", "load"),
    "measuring the reference": ("paddock.post_training.recipes.dpo", "_measure_reference"),
    "step": ("paddock.post_training.loop", "_step"),
    "validation": ("paddock.post_training.loop", "validate"),
    "saving a resume point": ("paddock.post_training.resume", "ResumePoints.save"),
    "writing a resume point": ("paddock.post_training.resume", "ResumePoints._write"),
    "row of a resume point": ("paddock.post_training.store", "CheckpointStore.set_resume_point"),
    "writing weights": ("paddock.post_training.checkpoints", "_save_weights"),
    "writing the rest": ("paddock.post_training.checkpoints", "_write_rest"),
    "publishing": ("paddock.post_training.checkpoints", "_publish"),
    "row of a checkpoint": ("paddock.post_training.store", "CheckpointStore.publish"),
    "dropping the resume point": ("paddock.post_training.store", "CheckpointStore.drop_resume_point"),
    "ending": ("paddock.runners", "end_well"),
}


class _Phases:
    """Notes the phases of this process's attempt, and kills where the plan says."""

    def __init__(self, folder: Path, job_id: str, attempt: int) -> None:
        self._job_id, self._attempt = job_id, attempt
        self._plan = folder / "plan.json"
        self._trace = os.open(folder / f"{job_id}.{attempt}.trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._met: Counter[str] = Counter()

    def enter(self, phase: str) -> None:
        self._note("enter", phase)
        self._met[phase] += 1
        self._kill_if_planned(phase, "enter")
        self._kill_if_planned(phase, "inside")

    def leave(self, phase: str) -> None:
        self._kill_if_planned(phase, "leave")
        self._note("leave", phase)

    def _note(self, what: str, phase: str) -> None:
        # In one write, which is the kernel's from then on: no kill can take it back.
        os.write(self._trace, json.dumps([what, phase, time.monotonic()]).encode() + b"\n")

    def _kill_if_planned(self, phase: str, where: str) -> None:
        try:
            plan = json.loads(self._plan.read_text())
        except FileNotFoundError:
            return
        here = [self._job_id, self._attempt, phase, where, self._met[phase]]
        if [plan[name] for name in ("job_id", "attempt", "phase", "where", "occurrence")] != here:
            return
        self._plan.rename(self._plan.with_suffix(".done"))
        victim = os.getppid() if plan["victim"] == "server" else os.getpid()
        if where == "inside":
            threading.Thread(target=self._kill, args=(victim, plan["seconds"]), daemon=True).start()
        else:
            self._kill(victim, 0.0)
            time.sleep(60)  # until the server's death has come through

    @staticmethod
    def _kill(victim: int, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(victim, signal.SIGKILL)


def _wrapped(phases: _Phases, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        phases.enter(phase)
        result = function(*args, **kwargs)
        phases.leave(phase)
        return result

    return run


def _install(folder: Path, job_id: str, attempt: int) -> None:
    phases = _Phases(folder, job_id, attempt)
    phases.enter(_STARTING)

    from paddock.post_training import job

    train = job._train

    def train_in_phases(*args: Any) -> None:
        for phase, (module_name, path) in _PHASES.items():
            *owners, name = path.split(".")
            owner: Any = importlib.import_module(module_name)
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, name, _wrapped(phases, phase, getattr(owner, name)))
        from paddock.post_training.resume import ResumePoints

        def save_if_due(self: ResumePoints, state: Any) -> None:
            if state.step % _STEPS_BETWEEN_RESUME_POINTS == 0:
                self.save(state)

        ResumePoints.save_if_due = save_if_due  # type: ignore[method-assign]
        phases.leave(_STARTING)
        train(*args)

    job._train = train_in_phases


def _wait_for_job(folder: Path) -> None:
    """A process may be started ahead of the job that it will do."""
    from paddock import runners

    run_job = runners.run_job

    def run_job_in_phases(settings: Any, job_id: str, attempt: int) -> int:
        _install(folder, job_id, attempt)
        return run_job(settings, job_id, attempt)

    runners.run_job = run_job_in_phases


if "TRAINING_KILLS" in os.environ and {"run-job", "fork-jobs"} & set(sys.argv):
    _wait_for_job(Path(os.environ["TRAINING_KILLS"]))

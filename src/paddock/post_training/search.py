"""A hyperparameter search as a job: it starts trials, each a training job of its own, and keeps the best one's checkpoints.

Its process only looks at the database, starts other jobs and waits for them. Each step is one fenced transaction: a search
that is killed goes on with every trial that there is, none lost and none done again.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import replace
from typing import Any

from paddock.errors import PaddockError
from paddock.inference.inference import Inference
from paddock.jobs import states
from paddock.jobs.job import Job, NewJob
from paddock.jobs.progress import Progress
from paddock.jobs.states import JobStatus
from paddock.jobs.store import JobStore
from paddock.post_training import search_space, study
from paddock.post_training.scores import BenchmarkScores
from paddock.post_training.search_config import BenchmarkObjective, Pruner, SearchConfig
from paddock.post_training.store import CheckpointStore
from paddock.post_training.trial_store import Trial, TrialStore, trial_id

log = logging.getLogger("paddock.training")

_LOOK_EVERY_SECONDS = 0.5


class Search:
    """One attempt at a search."""

    def __init__(
        self,
        progress: Progress,
        jobs: JobStore,
        trials: TrialStore,
        checkpoints: CheckpointStore,
        inference: Inference,
        scores: BenchmarkScores,
    ) -> None:
        self._progress = progress
        self._job = progress.job
        self._jobs = jobs
        self._trials = trials
        self._checkpoints = checkpoints
        self._inference = inference
        self._scores = scores
        self._asked: dict[str, Any] = progress.job.request["request"]
        self._search = SearchConfig.model_validate(self._asked["hyperparam_search_config"])
        self._total = self._search.total
        self._num_done: int | None = None

    def advance(self) -> bool:
        """Look once: note the trials that have ended, start those that come next. Returns whether there are no more."""
        for trial in self._trials.of_search(self._job.job_id):
            if trial.status == "running":
                self._tend(trial)
        trials = self._trials.of_search(self._job.job_id)
        num_running = sum(trial.status == "running" for trial in trials)
        while num_running < self._search.num_parallel_trials and len(trials) < self._total:
            trials.append(self._start(trials))
            num_running += 1
        if len(trials) - num_running != self._num_done:
            self._num_done = len(trials) - num_running
            self._progress.report(self._num_done, self._total, "trials", now=True)
            self._progress.set_resources(**self._used(trials))
        return num_running == 0

    def keep_best(self) -> None:
        """Make the best trial's checkpoints the search's own. Raises `PaddockError` if no trial has completed."""
        trials = self._trials.of_search(self._job.job_id)
        chosen = self._search.best(trials)
        if chosen is None:
            reason = next(
                (f" The first that failed: {t.error}" for t in trials if t.error), " All were pruned or failed."
            )
            raise PaddockError(f"None of the {len(trials)} trials completed.{reason}")
        log.info("Trial %d is the best of %d: %s → %.6g.", chosen.number, len(trials), chosen.params, chosen.value)
        if self._checkpoints.of_job(self._job.job_id):
            return  # the last attempt was lost between this and the end
        with self._progress.write() as connection:
            for checkpoint in self._checkpoints.of_job(chosen.job_id):
                name = f"{self._job.job_id}:epoch-{checkpoint.epoch}"
                model = self._inference.find(checkpoint.identifier)
                metadata = {**model.metadata, "trial": chosen.number}
                self._checkpoints.publish(
                    connection,
                    replace(checkpoint, identifier=name, job_id=self._job.job_id),
                    replace(model, model_id=name, job_id=self._job.job_id, metadata=metadata),
                )

    def _start(self, trials: list[Trial]) -> Trial:
        params = study.suggest(self._search, trials)
        assert params is not None, "no more trials are made than there are points"
        number = len(trials) + 1
        trial = Trial(number, trial_id(self._job.job_id, number), params)
        loggers = dict(self._asked["logger_config"])
        if loggers.get("run_name"):
            # An id, and those end at 256 characters.
            loggers["run_name"] = f"{loggers['run_name'][:240]} trial {number}"
        request = search_space.with_params(
            self._asked, params, job_uuid=trial.job_id, hyperparam_search_config={}, logger_config=loggers
        )
        data = request["training_config"]["data_config"]
        used = (data["dataset_id"], data["validation_dataset_id"])
        reads = tuple(version for version in self._job.reads if version.dataset_id in used)
        new = NewJob(trial.job_id, self._job.request["trains"], request, reads=reads, parent_id=self._job.job_id)
        with self._progress.write() as connection:
            self._jobs.submit(new, connection)
            self._trials.begin(connection, self._job.job_id, trial)
        log.info("Trial %d: %s", number, params)
        return trial

    def _tend(self, trial: Trial) -> None:
        job = self._jobs.get(trial.job_id)
        trial = replace(trial, losses=self._losses(trial.job_id))
        if job.status is JobStatus.COMPLETED:
            self._measure(trial)
        elif job.status.is_final:
            self._end(replace(trial, status="failed", error=_reason(job)))
        elif self._search.pruning is not None and trial.losses:
            self._prune(trial, self._search.pruning)

    def _measure(self, trial: Trial) -> None:
        """Find out the value of a trial that is trained, now or later."""
        objective = self._search.objective
        if not isinstance(objective, BenchmarkObjective):
            if len(trial.losses) == len(self._checkpoints.of_job(trial.job_id)):
                self._end(replace(trial, status="completed", value=trial.losses[-1]))
            else:
                self._end(replace(trial, status="failed", error="Its validation loss is beyond all numbers."))
            return
        if trial.eval_job_id is None:
            self._start_scoring(trial, objective)
            return
        job = self._jobs.get(trial.eval_job_id)
        if job.status is JobStatus.COMPLETED:
            value = self._scores.value(job.job_id, objective.scoring_function, objective.aggregation)
            if value is None:
                self._end(replace(trial, status="failed", error="No answer of it could be scored."))
            else:
                self._end(replace(trial, status="completed", value=value))
        elif job.status.is_final:
            self._end(replace(trial, status="failed", error=f"It could not be scored. {_reason(job)}"))

    def _start_scoring(self, trial: Trial, objective: BenchmarkObjective) -> None:
        last = self._checkpoints.of_job(trial.job_id)[-1]
        new = self._scores.job(
            f"{trial.job_id}:score",
            last.identifier,
            self._job.reads,
            parent_id=self._job.job_id,
            benchmark_id=objective.benchmark_id,
            scoring_function=objective.scoring_function,
            num_examples=objective.num_examples,
        )
        with self._progress.write() as connection:
            self._jobs.submit(new, connection)
            self._trials.is_scored_by(connection, self._job.job_id, trial.number, new.job_id)

    def _prune(self, trial: Trial, pruner: Pruner) -> None:
        if not study.is_hopeless(pruner, self._trials.of_search(self._job.job_id), trial.number, trial.losses):
            return
        with self._progress.write() as connection:
            # One that has completed meanwhile stays so.
            if states.cancel(connection, self._progress.database.now(), trial.job_id):
                self._trials.end(connection, self._job.job_id, replace(trial, status="pruned"))
                log.info("Trial %d is ended after epoch %d: others do better.", trial.number, len(trial.losses))

    def _end(self, trial: Trial) -> None:
        if trial.value is not None:
            self._progress.note_metrics(trial.number, value=trial.value)
        with self._progress.write() as connection:
            self._trials.end(connection, self._job.job_id, trial)
            self._progress.flush_metrics(connection)
        log.info("Trial %d has %s: %s", trial.number, trial.status, trial.error or trial.value)

    def _used(self, trials: list[Trial]) -> dict[str, Any]:
        """What the trials have used together, and when they will be done at their pace."""
        jobs = [self._jobs.get(trial.job_id) for trial in trials if trial.status != "running"]
        used = [job.resources for job in jobs if job.resources is not None]
        took = [job.ended_at - job.started_at for job in jobs if job.ended_at and job.started_at]
        left = (self._total - len(jobs)) / self._search.num_parallel_trials
        return {
            "num_trials": {
                status: sum(trial.status == status for trial in trials) for status in ("completed", "pruned", "failed")
            },
            **{name: sum(r[name] for r in used) for name in ("num_tokens", "training_seconds", "model_flops")},
            "peak_memory_bytes": max((r["peak_memory_bytes"] for r in used), default=None),
            "remaining_seconds": round(left * sum(took) / len(took), 1) if took else None,
        }

    def _losses(self, job_id: str) -> tuple[float, ...]:
        """The validation losses of a trial, by epoch."""
        metrics = (checkpoint.metrics for checkpoint in self._checkpoints.of_job(job_id))
        measured = itertools.takewhile(lambda values: values is not None, metrics)
        return tuple(values["validation_loss"] for values in measured if values)


def _reason(job: Job) -> str:
    return job.error or f"Its job was {job.status.value}."


def run(
    progress: Progress,
    jobs: JobStore,
    trials: TrialStore,
    checkpoints: CheckpointStore,
    inference: Inference,
    scores: BenchmarkScores,
) -> None:
    """Do the search that `progress` stands for, or what is left of it. Raises `StopRequestedError`, `LostLeaseError`."""
    search = Search(progress, jobs, trials, checkpoints, inference, scores)
    while not search.advance():
        progress.check_stop()
        time.sleep(_LOOK_EVERY_SECONDS)
    search.keep_best()

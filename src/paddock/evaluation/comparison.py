"""Evaluations of the same rows, held against each other: is a model better, by how much, and how sure is that?

The first job is the one that the others are compared with. Compared are the rows that both sides have a number for; how
many that leaves out is said. Scores with other parameters, or by another judge, are another measure and not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paddock.errors import ConflictError, InvalidRequestError
from paddock.evaluation import plan, samples
from paddock.evaluation.extension_schemas import Comparison
from paddock.evaluation.result_store import ResultStore
from paddock.evaluation.statistics import means, multiplicity, pairs
from paddock.jobs.job import Job

_CHUNK_ROWS = 1000

MAX_FLIPPED_ROWS = 1000
"""So many rows are named of those on which the models differ; all are counted."""

_POINTER = "job_id"


@dataclass(frozen=True)
class Pair:
    """The scores of two jobs on one row."""

    index: int
    first: float
    second: float
    cluster: str | None


def compare(jobs: Sequence[Job], results: ResultStore, adjustment: str) -> list[Comparison]:
    """Each of `jobs` but the first against that one, by each function that all of them ran alike.

    The p-values of all comparisons are adjusted together (`multiplicity.ADJUSTMENTS`). Raises `ConflictError` for a job
    that has not ended, and `InvalidRequestError` for jobs that cannot be compared."""
    _check(jobs)
    compared = [
        _compare(function_id, jobs[0], job, list(_pairs(jobs[0], job, function_id, results)))
        for function_id in _shared_functions(jobs)
        for job in jobs[1:]
    ]
    tested = [comparison for comparison in compared if comparison.p_value is not None]
    adjusted = multiplicity.ADJUSTMENTS[adjustment]([c.p_value for c in tested if c.p_value is not None])
    for comparison, p_value in zip(tested, adjusted, strict=True):
        comparison.adjusted_p_value = p_value
    return compared


def _check(jobs: Sequence[Job]) -> None:
    """Raise unless all jobs have ended and evaluated the same rows. A dataset only grows, so the first n rows of one
    generation are always the same."""
    first = jobs[0]
    for job in jobs:
        if not job.status.is_final:
            raise ConflictError(f"The job {job.job_id} is {job.status.value}: it can be compared once it has ended.")
        one, other = (each.reads_dataset(each.request["dataset_id"]) for each in (first, job))
        if (one.dataset_id, one.generation) != (other.dataset_id, other.generation):
            raise InvalidRequestError(
                f"The jobs {first.job_id} and {job.job_id} evaluated rows of different datasets, {one.dataset_id!r} and "
                f"{other.dataset_id!r} (or of one that was registered anew): only the same rows can be compared.",
                pointer=_POINTER,
            )
        if plan.num_rows(job) != plan.num_rows(first):
            raise InvalidRequestError(
                f"The jobs {first.job_id} and {job.job_id} evaluated {plan.num_rows(first)} and "
                f"{plan.num_rows(job)} rows of {one.dataset_id!r}: only the same rows can be compared. Run one again, "
                "with `num_examples`.",
                pointer=_POINTER,
            )


def _shared_functions(jobs: Sequence[Job]) -> list[str]:
    """The functions that all jobs ran with the same parameters and the same judge."""
    runs = [{run["function_id"]: run for run in job.request["plan"]["functions"]} for job in jobs]
    shared = [function_id for function_id, run in runs[0].items() if all(run == r.get(function_id) for r in runs)]
    if not shared:
        raise InvalidRequestError(
            "The jobs share no scoring function that they ran with the same parameters and the same judge.",
            pointer=_POINTER,
        )
    return shared


def _pairs(first: Job, second: Job, function_id: str, results: ResultStore) -> Iterator[Pair]:
    num_rows = plan.num_rows(first)
    for start in range(0, num_rows, _CHUNK_ROWS):
        end = min(start + _CHUNK_ROWS, num_rows)
        ours, theirs = (
            samples.row_scores(results, job.job_id, function_id, start, end, plan.num_results(job) // num_rows)
            for job in (first, second)
        )
        for index in range(start, end):
            if index in ours and index in theirs:
                one, other = ours[index], theirs[index]
                if _is_number(one["score"]) and _is_number(other["score"]):
                    yield Pair(index, float(one["score"]), float(other["score"]), one.get("cluster"))


def _is_number(score: Any) -> bool:
    return isinstance(score, int | float)


def _compare(function_id: str, first: Job, second: Job, compared: Sequence[Pair]) -> Comparison:
    flipped = [pair.index for pair in compared if pair.first != pair.second]
    comparison = Comparison(
        scoring_function=function_id,
        baseline_job_id=first.job_id,
        job_id=second.job_id,
        baseline_model=_model(first),
        model=_model(second),
        num_total=plan.num_rows(first),
        num_compared=len(compared),
        num_flipped=len(flipped),
        flipped_rows=flipped[:MAX_FLIPPED_ROWS],
    )
    if not compared:
        return comparison
    clusters = [pair.cluster for pair in compared]
    has_clusters = any(cluster is not None for cluster in clusters)
    ours, theirs = [pair.first for pair in compared], [pair.second for pair in compared]
    estimate = pairs.difference(ours, theirs, clusters if has_clusters else None)
    comparison.baseline_mean, comparison.mean = means.mean(ours).value, means.mean(theirs).value
    comparison.difference, comparison.stderr = estimate.value, estimate.stderr
    comparison.num_clusters = means.num_clusters(clusters) if has_clusters else None
    if estimate.stderr:
        comparison.smallest_detectable_difference = pairs.smallest_detectable(estimate.stderr)
    interval = estimate.interval
    if not has_clusters and all(score in (0.0, 1.0) for score in (*ours, *theirs)):
        only_ours = sum(pair.first > pair.second for pair in compared)
        only_theirs = len(flipped) - only_ours
        comparison.test, comparison.p_value, comparison.p_mid = "mcnemar", *pairs.mcnemar(only_ours, only_theirs)
        comparison.num_only_baseline_right, comparison.num_only_right = only_ours, only_theirs
        interval = pairs.difference_of_proportions(only_ours, only_theirs, len(compared))
    else:
        comparison.test, comparison.p_value = "paired t", pairs.p_value(estimate)
    comparison.ci95 = None if interval is None else list(interval)
    return comparison


def _model(job: Job) -> str:
    candidate = plan.from_json(job.request["plan"]).candidate
    assert candidate is not None
    return candidate.model.model_id

"""Checking an evaluation before it becomes a job: everything that can be known before it runs, while its client waits.

No model is loaded for it: ids, parameters, the dataset's counts and a sample of its rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from paddock.datasets.store import DatasetStore, StoredDataset
from paddock.errors import InvalidRequestError
from paddock.evaluation import asking, calibration, plan, prompts
from paddock.evaluation.benchmark_store import StoredBenchmark
from paddock.evaluation.calibration import CalibrationSet
from paddock.evaluation.plan import Plan
from paddock.evaluation.prompts import Row, UnreadableRowError
from paddock.evaluation.schemas import BenchmarkConfig
from paddock.evaluation.store import EvaluationStore
from paddock.inference.inference import Inference
from paddock.jobs.job import DatasetVersion, NewJob

KIND = "eval"

MAX_CALIBRATION_ROWS = 10_000

_NUM_SAMPLE_ROWS = 100


class Submission(NamedTuple):
    """A job that was checked, and the benchmark that it was checked against."""

    new: NewJob
    benchmark: StoredBenchmark


def check(
    benchmark_id: str,
    config: BenchmarkConfig,
    evaluation: EvaluationStore,
    datasets: DatasetStore,
    inference: Inference,
) -> Submission:
    """An evaluation of `config`'s candidate on a benchmark, of the rows that its dataset has now.

    Raises `NotFoundError` for an unknown benchmark, and `InvalidRequestError` for whatever else the client can mend."""
    benchmark = evaluation.benchmarks.get(benchmark_id)
    if not benchmark.scoring_functions:
        raise InvalidRequestError(
            f"The benchmark {benchmark_id!r} names no scoring functions to run.", pointer="benchmark_id"
        )
    resolved = plan.resolve(
        config,
        benchmark.scoring_functions,
        evaluation.functions,
        inference,
        asking=asking.named_in(benchmark.metadata),
        pointer=config.pointer,
        functions_pointer="",
    )
    dataset = datasets.get(benchmark.dataset_id)
    dataset.check_whole("benchmark_id")
    num_rows = dataset.num_rows if config.num_examples is None else min(config.num_examples, dataset.num_rows)
    is_reading = dataset.state == "reading"
    if num_rows == 0 and not is_reading:
        raise InvalidRequestError(
            f"The dataset {dataset.dataset_id!r} has no rows to evaluate.", pointer="benchmark_id"
        )
    _check_rows(dataset, datasets, resolved, num_rows)
    request = {
        "benchmark_config": config.model_dump(mode="json", exclude_unset=True),
        "plan": resolved.to_json(),
        "dataset_id": dataset.dataset_id,
        # While the source is still read nobody knows how many there will be.
        "num_rows": config.num_examples if is_reading else num_rows,
    }
    reads = [datasets.version(dataset)]
    labelled = calibration.named_in(benchmark.metadata)
    if labelled is not None and any(run.judge is not None for run in resolved.functions):
        version = _calibration_rows(labelled, benchmark, datasets)
        request[calibration.KEY] = {
            "dataset_id": labelled.dataset_id,
            "num_rows": version.num_rows,
            "threshold": labelled.threshold,
        }
        reads.append(version)
    new = NewJob(str(uuid.uuid4()), KIND, request, benchmark_id=benchmark_id, reads=tuple(reads))
    return Submission(new, benchmark)


def _calibration_rows(labelled: CalibrationSet, benchmark: StoredBenchmark, datasets: DatasetStore) -> DatasetVersion:
    """The rows that the judges are calibrated on. Raises `InvalidRequestError` if they cannot be."""
    if labelled.dataset_id == benchmark.dataset_id:
        raise InvalidRequestError(
            f"The benchmark {benchmark.benchmark_id!r} calibrates its judge on its own dataset: label other answers.",
            pointer="benchmark_id",
        )
    dataset = datasets.get_for(labelled.dataset_id, "benchmark_id")
    dataset.check_whole("benchmark_id")
    if dataset.state == "reading":
        raise InvalidRequestError(
            f"The dataset {labelled.dataset_id!r} is still being read: wait until it is ready.", pointer="benchmark_id"
        )
    version = datasets.version(dataset)
    if version.num_rows > MAX_CALIBRATION_ROWS:
        raise InvalidRequestError(
            f"The dataset {labelled.dataset_id!r} has {version.num_rows} rows; a judge is calibrated on at most "
            f"{MAX_CALIBRATION_ROWS}.",
            pointer="benchmark_id",
        )
    calibration.check_rows(labelled, datasets.read(version))
    return version


def _check_rows(dataset: StoredDataset, datasets: DatasetStore, resolved: Plan, num_rows: int) -> None:
    """Raise `InvalidRequestError` naming the first row, of a sample, that lacks a column that the job needs.

    A row that has its columns and yet cannot be read is that row's failure when the job comes to it."""
    scorers = [run.scorer() for run in resolved.functions]
    needs_answer = any(scorer.needs_expected_answer for scorer in scorers)
    columns = [column for scorer in scorers for column in scorer.columns]
    for index, row in _sample(dataset, datasets, num_rows):
        column = _missing(row, columns, needs_answer=needs_answer)
        if column is not None:
            raise InvalidRequestError(
                f"Row {index} of the dataset {dataset.dataset_id!r} has no `{column}`, which this evaluation needs. "
                f"Rows that lack columns of their purpose: {dataset.num_incomplete_rows}.",
                pointer="benchmark_id",
            )


def _sample(dataset: StoredDataset, datasets: DatasetStore, num_rows: int) -> Iterator[tuple[int, Row]]:
    """The first rows, and the first of all that lacks something by the dataset's own counts."""
    version = datasets.version(dataset)
    first = enumerate(datasets.read(version, limit=min(_NUM_SAMPLE_ROWS, num_rows)))
    suspect = dataset.first_incomplete_row
    if suspect is None or not _NUM_SAMPLE_ROWS <= suspect < num_rows:
        return first
    return chain(first, enumerate(datasets.read(version, suspect, 1), suspect))


def _missing(row: Row, columns: Sequence[str], *, needs_answer: bool) -> str | None:
    try:
        prompts.messages(row)
        has_answer = prompts.expected_answer(row) is not None
    except UnreadableRowError as error:
        return error.column
    if needs_answer and not has_answer:
        return "answer"
    return next((column for column in columns if row.get(column) is None), None)

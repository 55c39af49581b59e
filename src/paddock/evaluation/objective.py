"""A benchmark's score as a number that a hyperparameter search maximises: checked, scheduled as a job, and read.

`wiring` hands it to post-training, which knows no evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddock.datasets.store import DatasetStore
from paddock.errors import InvalidRequestError, NotFoundError
from paddock.evaluation import plan, submission
from paddock.evaluation.schemas import AggregationFunctionType, BenchmarkConfig
from paddock.evaluation.scoring.aggregation import aggregator_of
from paddock.evaluation.scoring.function import aggregations
from paddock.evaluation.store import EvaluationStore
from paddock.inference.inference import Inference
from paddock.jobs.job import DatasetVersion, NewJob
from paddock.wire import from_json, ignored_fields


class BenchmarkScores:
    """The scores of models on the benchmarks that are registered."""

    def __init__(self, evaluation: EvaluationStore, datasets: DatasetStore, inference: Inference) -> None:
        self._evaluation = evaluation
        self._datasets = datasets
        self._inference = inference

    def check(
        self,
        model_id: str,
        *,
        benchmark_id: str,
        scoring_function: str,
        aggregation: str,
        num_examples: int | None,
        pointer: str,
    ) -> DatasetVersion:
        """The rows that models like `model_id` would be scored on. Raises `InvalidRequestError` at `pointer` for whatever
        the client can mend."""
        try:
            new = self._new_job("", model_id, benchmark_id, scoring_function, num_examples)
        except NotFoundError as error:
            raise InvalidRequestError(error.detail, pointer=f"{pointer}/benchmark_id") from None
        except InvalidRequestError as error:
            raise InvalidRequestError(error.detail, pointer=pointer) from None
        functions = plan.from_json(new.request["plan"]).functions
        if not functions:
            raise InvalidRequestError(
                f"The benchmark {benchmark_id!r} does not run {scoring_function!r}.",
                pointer=f"{pointer}/scoring_function",
            )
        offered = [
            a.value for a in aggregations(functions[0].params) if a is not AggregationFunctionType.CATEGORICAL_COUNT
        ]
        if aggregation not in offered:
            raise InvalidRequestError(
                f"{scoring_function} is not aggregated to a number by {aggregation!r}, but by {' and '.join(offered)}.",
                pointer=f"{pointer}/aggregation",
            )
        return new.reads[0]

    def job(
        self,
        job_id: str,
        model_id: str,
        reads: Sequence[DatasetVersion],
        *,
        parent_id: str,
        benchmark_id: str,
        scoring_function: str,
        num_examples: int | None,
    ) -> NewJob:
        """The job that scores a model on the benchmark's rows in the version among `reads`, which was pinned at first."""
        new = self._new_job(job_id, model_id, benchmark_id, scoring_function, num_examples)
        rows = next(version for version in reads if version.dataset_id == new.reads[0].dataset_id)
        num_rows = rows.num_rows if num_examples is None else min(num_examples, rows.num_rows)
        request = {**new.request, "num_rows": num_rows}
        return NewJob(job_id, new.kind, request, benchmark_id, reads=(rows,), parent_id=parent_id)

    def value(self, job_id: str, scoring_function: str, aggregation: str) -> float | None:
        """The score that a completed job came to, None where no row could be scored."""
        job = self._evaluation.jobs.get(job_id)
        (function,) = plan.from_json(job.request["plan"]).functions
        aggregator = aggregator_of(function.params)
        for text in self._evaluation.results.score_texts(job_id, scoring_function, 0, job.request["num_rows"]).values():
            aggregator.add(from_json(text))
        value: float | None = aggregator.results()[aggregation][aggregation]
        return value

    def _new_job(
        self, job_id: str, model_id: str, benchmark_id: str, scoring_function: str, num_examples: int | None
    ) -> NewJob:
        # Parsed inside of another request, whose ignored fields are being noted.
        notes = ignored_fields.set(None)
        config = BenchmarkConfig.model_validate(
            {
                "eval_candidate": {
                    "type": "model",
                    "model": model_id,
                    "sampling_params": {"strategy": {"type": "greedy"}},
                },
                "num_examples": num_examples,
            }
        )
        ignored_fields.reset(notes)
        checked = submission.check(benchmark_id, config, self._evaluation, self._datasets, self._inference)
        whole = checked.new.request["plan"]
        # The other functions of the benchmark would be paid for and not read.
        functions = [function for function in whole["functions"] if function["function_id"] == scoring_function]
        request = {**checked.new.request, "plan": {**whole, "functions": functions}}
        return NewJob(job_id, checked.new.kind, request, benchmark_id, checked.new.reads)

"""What an evaluation found out, as the contract's `EvaluateResponse`: of a stored job as a stream of JSON text, of rows
that were evaluated at once as an object.

`generations[i]` and `score_rows[i]` belong to row i. A job that was cancelled, or failed, shows the rows up to the last
one that it found anything out about; those between that it did not get to say so in `error`, and count as failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paddock import wire
from paddock.evaluation import calibration, plan
from paddock.evaluation.calibration import CORRECTED, Corrector
from paddock.evaluation.plan import FunctionRun, Plan
from paddock.evaluation.result_store import ResultStore, RowResult
from paddock.evaluation.schemas import ScoringResult
from paddock.evaluation.scoring.aggregation import aggregator_of
from paddock.evaluation.scoring.function import Score
from paddock.jobs.job import Job

_CHUNK_ROWS = 1000

_NOT_EVALUATED = "This row was not evaluated: the job ended before."
_NO_GENERATION = wire.to_json({"generated_answer": None, "error": _NOT_EVALUATED})
_NO_SCORE = wire.to_json({"score": None, "error": _NOT_EVALUATED})


def stream(job: Job, results: ResultStore) -> Iterator[str]:
    """The result of an ended job, some rows at a time; nothing is held while a piece is on its way."""
    resolved = plan.from_json(job.request["plan"])
    num_rows = results.num_rows(job.job_id)
    separator = '{"generations":['
    for start, end in _chunks(num_rows):
        texts = results.generation_texts(job.job_id, start, end)
        yield separator + ",".join(texts.get(index, _NO_GENERATION) for index in range(start, end))
        separator = ","
    yield ('],"scores":{' if num_rows else '{"generations":[],"scores":{')
    for position, run in enumerate(resolved.functions):
        yield ("," if position else "") + wire.to_json(run.function_id) + ":"
        yield from _stream_scores(job, run, num_rows, results)
    yield "}}"


def _stream_scores(job: Job, run: FunctionRun, num_rows: int, results: ResultStore) -> Iterator[str]:
    """A `ScoringResult`: the score rows as they are stored, aggregated on their way."""
    aggregator = aggregator_of(run.params)
    corrector = None if run.judge is None else _corrector(job, run, results)
    yield '{"score_rows":['
    separator = ""
    for start, end in _chunks(num_rows):
        found = results.score_texts(job.job_id, run.function_id, start, end)
        texts = [found.get(index, _NO_SCORE) for index in range(start, end)]
        for text in texts:
            row = wire.from_json(text)
            aggregator.add(row)
            if corrector is not None:
                corrector.add(row)
        yield separator + ",".join(texts)
        separator = ","
    aggregated = aggregator.results()
    if corrector is not None:
        aggregated[CORRECTED] = corrector.result()
    yield f'],"aggregated_results":{wire.to_json(aggregated)}}}'


def _corrector(job: Job, run: FunctionRun, results: ResultStore) -> Corrector | None:
    """What corrects the judge's score, if the job had it calibrated; the labelled rows follow those of the job."""
    labelled = job.request.get(calibration.KEY)
    if labelled is None:
        return None
    corrector = Corrector(labelled["threshold"])
    first = plan.num_rows(job)
    for text in results.score_texts(job.job_id, run.function_id, first, first + labelled["num_rows"]).values():
        corrector.add_labelled(wire.from_json(text))
    return corrector


def _chunks(num_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, _CHUNK_ROWS):
        yield start, min(start + _CHUNK_ROWS, num_rows)


class Collected:
    """Results of rows that are evaluated at once, put in their places as they come."""

    def __init__(self, resolved: Plan, num_rows: int) -> None:
        self._functions = resolved.functions
        self._generations: list[Mapping[str, Any]] = [{} for _ in range(num_rows)]
        self._scores: dict[str, list[Score]] = {
            run.function_id: [{} for _ in range(num_rows)] for run in self._functions
        }

    async def add(self, result: RowResult) -> None:
        """Take in what was found out about a row."""
        if result.generation is not None:
            self._generations[result.index] = result.generation
        for function_id, score in result.scores.items():
            self._scores[function_id][result.index] = dict(score)

    def scores(self) -> dict[str, ScoringResult]:
        """Function id → its score rows and their aggregation."""
        return {run.function_id: _scoring_result(run, self._scores[run.function_id]) for run in self._functions}

    def to_json(self) -> str:
        """All of it, as the text of an `EvaluateResponse`."""
        scores = {function_id: result.model_dump() for function_id, result in self.scores().items()}
        return wire.to_json({"generations": self._generations, "scores": scores})


def _scoring_result(run: FunctionRun, rows: list[Score]) -> ScoringResult:
    aggregator = aggregator_of(run.params)
    for row in rows:
        aggregator.add(row)
    return ScoringResult(score_rows=rows, aggregated_results=aggregator.results())

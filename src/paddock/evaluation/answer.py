"""What an evaluation found out, as the contract's `EvaluateResponse`: of a stored job as a stream of JSON text, of rows
that were evaluated at once as an object.

`generations[i]` and `score_rows[i]` belong to row i. A job that was cancelled, or failed, shows the rows up to the last
one that it found anything out about; those between that it did not get to say so in `error`, and count as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from paddock import wire
from paddock.evaluation import calibration, plan, samples
from paddock.evaluation.calibration import CORRECTED, Corrector
from paddock.evaluation.plan import FunctionRun, Plan
from paddock.evaluation.result_store import ResultStore, RowResult
from paddock.evaluation.samples import PassAtK
from paddock.evaluation.schemas import ScoringResult
from paddock.evaluation.scoring.aggregation import aggregator_of
from paddock.evaluation.scoring.function import Score
from paddock.jobs.job import Job

_CHUNK_ROWS = 1000

NOT_EVALUATED = "This row was not evaluated: the job ended before."
_NO_GENERATION = wire.to_json({"generated_answer": None, "error": NOT_EVALUATED})
_NO_SCORE = wire.to_json({"score": None, "error": NOT_EVALUATED})


def stream(job: Job, results: ResultStore) -> Iterator[str]:
    """The result of an ended job, some rows at a time; nothing is held while a piece is on its way."""
    resolved = plan.from_json(job.request["plan"])
    n = resolved.num_samples
    num_rows = -(-results.num_rows(job.job_id) // n)
    separator = '{"generations":['
    for start, end in _chunks(num_rows):
        found = results.generation_texts(job.job_id, start * n, end * n)
        texts = [found.get(index, _NO_GENERATION) for index in range(start * n, end * n)]
        yield separator + ",".join(texts if n == 1 else _grouped(texts, n, samples.generation_of))
        separator = ","
    yield ('],"scores":{' if num_rows else '{"generations":[],"scores":{')
    for position, run in enumerate(resolved.functions):
        yield ("," if position else "") + wire.to_json(run.function_id) + ":"
        yield from _stream_scores(job, resolved, run, num_rows, results)
    yield "}}"


def aggregates(job: Job, results: ResultStore) -> dict[str, Any]:
    """Function id → its aggregated results, of an ended job."""
    resolved = plan.from_json(job.request["plan"])
    num_rows = -(-results.num_rows(job.job_id) // resolved.num_samples)
    found = {}
    for run in resolved.functions:
        summary = _summary(job, resolved, run, results)
        for text in _score_texts(job, resolved, run, num_rows, results):
            summary.add(wire.from_json(text))
        found[run.function_id] = summary.results()
    return found


def _summary(job: Job, resolved: Plan, run: FunctionRun, results: ResultStore) -> Summary:
    return Summary(resolved, run, None if run.judge is None else _corrector(job, run, results))


def _score_texts(job: Job, resolved: Plan, run: FunctionRun, num_rows: int, results: ResultStore) -> Iterator[str]:
    n = resolved.num_samples
    for start, end in _chunks(num_rows):
        found = results.score_texts(job.job_id, run.function_id, start * n, end * n)
        yield from (found.get(index, _NO_SCORE) for index in range(start * n, end * n))


def _stream_scores(job: Job, resolved: Plan, run: FunctionRun, num_rows: int, results: ResultStore) -> Iterator[str]:
    """A `ScoringResult`: the score rows as they are stored, aggregated on their way."""
    n = resolved.num_samples
    summary = _summary(job, resolved, run, results)
    yield '{"score_rows":['
    separator = ""
    texts = _score_texts(job, resolved, run, num_rows, results)
    while some := list(islice(texts, _CHUNK_ROWS * n)):
        for text in some:
            summary.add(wire.from_json(text))
        yield separator + ",".join(some if n == 1 else _grouped(some, n, samples.score_of))
        separator = ","
    yield f'],"aggregated_results":{wire.to_json(summary.results())}}}'


def _grouped(texts: Sequence[str], n: int, of: Callable[[Sequence[Any]], Mapping[str, Any]]) -> Iterator[str]:
    """The text of each row, put together from those of its n samples."""
    for start in range(0, len(texts), n):
        yield wire.to_json(of([wire.from_json(text) for text in texts[start : start + n]]))


class Summary:
    """All `aggregated_results` of a function, from the scores of its results in their order."""

    def __init__(self, resolved: Plan, run: FunctionRun, corrector: Corrector | None = None) -> None:
        self._n = resolved.num_samples
        self._aggregator = aggregator_of(run.params)
        self._corrector = corrector
        self._pass_at_k = PassAtK(() if resolved.candidate is None else resolved.candidate.pass_at_k)
        self._row: list[Score] = []
        self._num_rows = 0

    def add(self, score: Score) -> None:
        """Take in the next result's score row."""
        self._row.append(score)
        if len(self._row) < self._n:
            return
        samples.aggregate(self._aggregator, self._num_rows, self._row)
        self._pass_at_k.add(self._row)
        if self._corrector is not None:
            for sample in self._row:
                self._corrector.add(sample)
        self._num_rows += 1
        self._row = []

    def results(self) -> dict[str, Any]:
        """`{aggregation: {…}}`."""
        aggregated = {**self._aggregator.results(), **self._pass_at_k.results()}
        return aggregated if self._corrector is None else {**aggregated, CORRECTED: self._corrector.result()}


def _corrector(job: Job, run: FunctionRun, results: ResultStore) -> Corrector | None:
    """What corrects the judge's score, if the job had it calibrated; the labelled rows follow those of the job."""
    labelled = job.request.get(calibration.KEY)
    if labelled is None:
        return None
    corrector = Corrector(labelled["threshold"])
    first = plan.num_results(job)
    for text in results.score_texts(job.job_id, run.function_id, first, first + labelled["num_rows"]).values():
        corrector.add_labelled(wire.from_json(text))
    return corrector


def _chunks(num_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, _CHUNK_ROWS):
        yield start, min(start + _CHUNK_ROWS, num_rows)


class Collected:
    """Results of rows that are evaluated at once, put in their places as they come."""

    def __init__(self, resolved: Plan, num_rows: int) -> None:
        self._plan = resolved
        num_results = num_rows * resolved.num_samples
        self._generations: list[Mapping[str, Any]] = [{} for _ in range(num_results)]
        self._scores: dict[str, list[Score]] = {
            run.function_id: [{} for _ in range(num_results)] for run in resolved.functions
        }

    async def add(self, result: RowResult) -> None:
        """Take in what was found out about a row."""
        if result.generation is not None:
            self._generations[result.index] = result.generation
        for function_id, score in result.scores.items():
            self._scores[function_id][result.index] = dict(score)

    def scores(self) -> dict[str, ScoringResult]:
        """Function id → its score rows and their aggregation."""
        return {run.function_id: self._scoring_result(run) for run in self._plan.functions}

    def to_json(self) -> str:
        """All of it, as the text of an `EvaluateResponse`."""
        scores = {function_id: result.model_dump() for function_id, result in self.scores().items()}
        generations = [samples.generation_of(row) for row in self._rows(self._generations)]
        return wire.to_json({"generations": generations, "scores": scores})

    def _scoring_result(self, run: FunctionRun) -> ScoringResult:
        summary = Summary(self._plan, run)
        for score in self._scores[run.function_id]:
            summary.add(score)
        rows = [samples.score_of(row) for row in self._rows(self._scores[run.function_id])]
        return ScoringResult(score_rows=rows, aggregated_results=summary.results())

    def _rows(self, results: Sequence[Any]) -> Iterator[Sequence[Any]]:
        n = self._plan.num_samples
        return (results[start : start + n] for start in range(0, len(results), n))

"""A bundle's generations scored again, without a server: by the functions of the job, which must come to the same, or by
others. No model is asked: a judge's replies are those that the bundle has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from paddock.errors import InvalidRequestError
from paddock.evaluation import bundle, calibration, function_store, prompts
from paddock.evaluation.answer import NOT_EVALUATED, Summary
from paddock.evaluation.bundle import Bundle
from paddock.evaluation.calibration import Corrector
from paddock.evaluation.evaluate import score_row
from paddock.evaluation.plan import FunctionRun, Plan
from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring import SCORING_FUNCTIONS, kind_of
from paddock.evaluation.scoring.function import GREEDY, CannotScoreError, Params, Score, completed, replies
from paddock.inference.engine import Sampling

_CHUNK_RESULTS = 200


class Result(NamedTuple):
    """A row, its generation, and the score that was recorded; None is what the job did not get to."""

    row: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    recorded: Score | None


def rescore(source: Bundle) -> dict[str, Any]:
    """Function id → its aggregated results, by the job's own functions."""
    with _strange(source):
        resolved = source.plan
        return {
            run.function_id: asyncio.run(_aggregated(source, resolved, run, position))
            for position, run in enumerate(resolved.functions)
        }


def score_by(source: Bundle, function_ids: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """Function id → its aggregated results, by other functions, with parameters as requests have them. Raises
    `InvalidRequestError` for a function that there is not, or that would ask a judge."""
    runs = [_run(function_id, params.get(function_id)) for function_id in function_ids]
    with _strange(source):
        return {run.function_id: asyncio.run(_aggregated(source, source.plan, run, None)) for run in runs}


@contextmanager
def _strange(source: Bundle) -> Iterator[None]:
    """What a stranger's bundle holds has the right digests, and may be nonsense all the same."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise InvalidRequestError(
            f"What {source.path.name} holds is no evaluation that was exported: {error!r}."
        ) from error


def _run(function_id: str, given: Any) -> FunctionRun:
    try:
        own: Params | None = None if given is None else function_store.params_from_json(given)
    except ValueError as error:
        raise InvalidRequestError(f"The parameters of {function_id} cannot be read: {error}") from None
    kind = function_id if function_id in SCORING_FUNCTIONS else None if own is None else kind_of(own)
    if kind is None:
        raise InvalidRequestError(
            f"There is no scoring function {function_id!r} here. One of your own needs its parameters, with their `type`."
        )
    defaults = SCORING_FUNCTIONS[kind].defaults
    if isinstance(defaults, LLMAsJudgeScoringFnParams):  # or a model that compares texts
        raise InvalidRequestError(
            f"{function_id} asks a judge, and without a server there is none: `paddock scoring score` runs it there."
        )
    if own is not None and type(own) is not type(defaults):
        raise InvalidRequestError(f"{function_id} takes parameters of the type {defaults.type!r}, not {own.type!r}.")
    return FunctionRun(function_id, kind, defaults if own is None else completed(own, defaults), None)


async def _aggregated(source: Bundle, resolved: Plan, run: FunctionRun, position: int | None) -> dict[str, Any]:
    corrector = None
    labelled = source.manifest["request"].get(calibration.KEY)
    if labelled is not None and run.judge is not None and position is not None:
        corrector = Corrector(labelled["threshold"])
        rows = source.rows(bundle.CALIBRATION)
        recorded = source.lines(bundle.calibration_file(position))
        answered = [
            Result(row, {"generated_answer": prompts.generated_answer(row)}, was)
            for row, was in zip(rows, recorded, strict=True)
        ]
        for result, score in await _scored(answered, run, is_own=True):
            corrector.add_labelled({**score, "label": calibration.label(result.row)})
    summary = Summary(resolved, run, corrector)
    for some in _chunks(_results(source, resolved.num_samples, position)):
        for _, score in await _scored(some, run, is_own=position is not None):
            summary.add(score)
    return summary.results()


def _results(source: Bundle, num_samples: int, position: int | None) -> Iterator[Result]:
    rows = (row for row in source.rows(bundle.ROWS) for _ in range(num_samples))
    if position is None:
        for row, generation in zip(rows, source.lines(bundle.GENERATIONS), strict=True):
            yield Result(row, generation, None)
        return
    files = (source.lines(bundle.GENERATIONS), source.lines(bundle.scores_file(position)))
    for row, generation, recorded in zip(rows, *files, strict=True):
        yield Result(row, generation, recorded)


def _chunks(results: Iterator[Result]) -> Iterator[Sequence[Result]]:
    while some := list(islice(results, _CHUNK_RESULTS)):
        yield some


async def _scored(results: Iterable[Result], run: FunctionRun, *, is_own: bool) -> list[tuple[Result, Score]]:
    scorer = run.scorer()

    async def score(result: Result) -> tuple[Result, Score]:
        if result.generation is None or (is_own and result.recorded is None):
            return result, {"score": None, "error": NOT_EVALUATED}
        return result, await score_row(scorer, _Replay(result.recorded), result.row, result.generation)

    return list(await asyncio.gather(*(score(result) for result in results)))


class _Replay:
    """A judge that says again what it said when the result was recorded, and fails where it failed then."""

    def __init__(self, recorded: Score | None) -> None:
        self._error = None if recorded is None else recorded.get("error")
        self._replies = iter(() if recorded is None else replies(recorded))
        self._similarities = iter(() if recorded is None else recorded.get("similarities", ()))

    async def __call__(self, prompt: str, sampling: Sampling = GREEDY) -> str:
        """See `Ask`."""
        return str(self._next(self._replies, f"{prompt[:100]!r} ({sampling})"))

    async def similarities(self, text: str, others: Sequence[str]) -> list[float]:
        """See `Ask`."""
        return [float(self._next(self._similarities, f"{text[:50]!r} beside {other[:50]!r}")) for other in others]

    def _next(self, said: Iterator[Any], asked: str) -> Any:
        reply = next(said, None)
        if reply is None:
            raise CannotScoreError(self._error or f"The bundle does not say what was answered to {asked}.")
        return reply

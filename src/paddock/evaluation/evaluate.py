"""Rows in, generations and scores out: as many calls in flight as the engines are worth, in bounded memory.

Shared by the job and by `evaluate_rows`; where rows come from and where results go is theirs. What goes wrong with one
row is that row's failure, with the reason. When a model is away, the evaluation itself ends with the reason, instead of
failing row after row (`calls`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from paddock.evaluation import prompts
from paddock.evaluation.calls import Caller, CallError, Leaves, RowLeftError, leave_nothing
from paddock.evaluation.plan import FunctionRun, Plan
from paddock.evaluation.prompts import UnreadableRowError
from paddock.evaluation.result_store import RowResult
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score
from paddock.inference.engine import Sampling
from paddock.inference.inference import Inference

_JUDGE_SAMPLING = Sampling(temperature=0.0)

Emit = Callable[[RowResult], Awaitable[None]]


@dataclass(frozen=True)
class Todo:
    """A row, and what is still to be found out about it: its generation, unless that is known, and these functions'
    scores."""

    index: int
    row: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    function_ids: Sequence[str]


async def evaluate(
    todos: Iterator[Todo],
    plan: Plan,
    inference: Inference,
    emit: Emit,
    *,
    proven: Collection[str] = (),
    leaves: Leaves = leave_nothing,
) -> None:
    """Do what is to do, calling `emit` for each generation and each score as soon as it is there.

    Rows are taken from `todos` as there is room for them. `proven` are ids of models that have answered in an earlier
    attempt; `leaves` says which failed calls leave their row to a later one. Raises the error of a model that is given up
    on, taking back everything in flight, and at the end the one for which rows are left."""
    evaluation = _Evaluation(plan, inference, emit, proven, leaves)
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(evaluation.num_rows_in_flight):
                workers.create_task(evaluation.work(todos))
    except BaseExceptionGroup as group:
        raise _first_error(group) from None
    evaluation.check()


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group of tasks; the others are its consequence."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Evaluation:
    def __init__(self, plan: Plan, inference: Inference, emit: Emit, proven: Collection[str], leaves: Leaves) -> None:
        self._candidate = plan.candidate
        self._emit = emit
        models = {run.judge.model_id: run.judge for run in plan.functions if run.judge is not None}
        if plan.candidate is not None:
            models[plan.candidate.model.model_id] = plan.candidate.model
        engines = {model_id: inference.engine(model) for model_id, model in models.items()}
        limits = {engine: asyncio.Semaphore(engine.max_concurrency) for engine in engines.values()}
        self._callers = {
            model_id: Caller(engines[model_id], model, limits[engines[model_id]], leaves, is_proven=model_id in proven)
            for model_id, model in models.items()
        }
        self._scorers = {run.function_id: (run.scorer(), self._ask_of(run)) for run in plan.functions}
        # Enough to keep every engine busy, few enough that a slow judge holds back the rows behind it.
        self.num_rows_in_flight = sum(engine.max_concurrency for engine in limits) or 1

    def _ask_of(self, run: FunctionRun) -> Ask:
        return _no_judge if run.judge is None else partial(_ask_judge, self._callers[run.judge.model_id])

    def check(self) -> None:
        for caller in self._callers.values():
            caller.check()

    async def work(self, todos: Iterator[Todo]) -> None:
        for todo in todos:
            generation = todo.generation
            if generation is None:
                try:
                    generation = await self._generate(todo.row)
                except RowLeftError:
                    continue
                await self._emit(RowResult(todo.index, generation=generation))
            await self._score_all(todo, generation)

    async def _generate(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        candidate = self._candidate
        assert candidate is not None
        try:
            messages = prompts.messages(row, candidate.system)
            generation = await self._callers[candidate.model.model_id].chat(messages, candidate.sampling)
        except (UnreadableRowError, CallError) as error:
            return {"generated_answer": None, "error": str(error)}
        return {
            "generated_answer": generation.text,
            "finish_reason": generation.finish_reason,
            "num_prompt_tokens": generation.num_prompt_tokens,
            "num_generated_tokens": generation.num_generated_tokens,
            "latency_seconds": generation.latency_seconds,
        }

    async def _score_all(self, todo: Todo, generation: Mapping[str, Any]) -> None:
        num_left = len(todo.function_ids)

        async def score_one(function_id: str) -> None:
            nonlocal num_left
            try:
                score = await self._score(function_id, todo.row, generation)
            except RowLeftError:
                return
            num_left -= 1
            await self._emit(RowResult(todo.index, scores={function_id: score}, is_last=num_left == 0))

        if num_left == 1:
            await score_one(todo.function_ids[0])
            return
        async with asyncio.TaskGroup() as functions:
            for function_id in todo.function_ids:
                functions.create_task(score_one(function_id))

    async def _score(self, function_id: str, row: Mapping[str, Any], generation: Mapping[str, Any]) -> Score:
        scorer, ask = self._scorers[function_id]
        answer = generation["generated_answer"]
        if answer is None:
            return {"score": None, "error": f"There is no answer to score: {generation['error']}"}
        try:
            sample = Sample(prompts.input_query(row), prompts.expected_answer(row), answer)
            if scorer.needs_expected_answer and sample.expected_answer is None:
                raise UnreadableRowError("The row has no `answer` to compare with.", column="answer")
            standing = _standing(row)
            score = await scorer.score(sample, ask)
        except UnreadableRowError as error:
            return {"score": None, "error": str(error)}
        except CannotScoreError as error:
            return {"score": None, "error": error.reason, **error.extras}
        return {**score, **standing}


def _standing(row: Mapping[str, Any]) -> Score:
    """What aggregation needs to know of the row: how much it counts, and which rows it resembles, where it says so."""
    known = {"weight": prompts.weight(row), "cluster": prompts.cluster(row)}
    return {name: value for name, value in known.items() if value is not None}


async def _ask_judge(judge: Caller, prompt: str) -> str:
    try:
        reply = await judge.chat([{"role": "user", "content": prompt}], _JUDGE_SAMPLING)
    except CallError as error:
        raise CannotScoreError(f"The judge did not answer: {error}") from None
    return reply.text


async def _no_judge(_prompt: str) -> str:
    raise AssertionError("this scoring function has no judge")

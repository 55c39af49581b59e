"""Rows in, generations and scores out: as many calls in flight as the engines are worth, in bounded memory.

Shared by the job and by `evaluate_rows`; where rows come from and where results go is theirs. What goes wrong with one
row is that row's failure, with the reason. When a model is away, the evaluation itself ends with the reason, instead of
failing row after row (`calls`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from paddock.evaluation import prompts
from paddock.evaluation.asking import Manner
from paddock.evaluation.calls import Caller, CallError, Leaves, RowLeftError, leave_nothing
from paddock.evaluation.plan import Candidate, FunctionRun, Plan
from paddock.evaluation.prompts import UnreadableRowError
from paddock.evaluation.result_store import RowResult
from paddock.evaluation.scoring.function import GREEDY, Ask, CannotScoreError, Sample, Score, Scorer
from paddock.inference.engine import Generation, Sampling
from paddock.inference.inference import Inference

Emit = Callable[[RowResult], Awaitable[None]]


@dataclass(frozen=True)
class Todo:
    """A row, and what is still to be found out about it: its generation, unless that is known, and these functions'
    scores. `index` is the number of the result: of rows with several samples each sample has its own. A generation that
    `is_recalled` is known from elsewhere, and a result of this evaluation all the same."""

    index: int
    row: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    function_ids: Sequence[str]
    is_recalled: bool = False


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
            for todo in islice(todos, evaluation.num_rows_in_flight):
                workers.create_task(evaluation.work(chain([todo], todos)))
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
        models = {model.model_id: model for run in plan.functions for model in run.models}
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
        judge, embedder = (
            None if model is None else self._callers[model.model_id] for model in (run.judge, run.embedder)
        )
        return _Judge(judge, embedder)

    def check(self) -> None:
        for caller in self._callers.values():
            caller.check()

    async def work(self, todos: Iterator[Todo]) -> None:
        for todo in todos:
            generation = todo.generation
            if generation is None:
                try:
                    generation = await self._generate(todo)
                except RowLeftError:
                    continue
            if todo.generation is None or todo.is_recalled:
                await self._emit(RowResult(todo.index, generation=generation))
            await self._score_all(todo, generation)

    async def _generate(self, todo: Todo) -> Mapping[str, Any]:
        candidate = self._candidate
        assert candidate is not None
        sampling = candidate.sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + todo.index)
        try:
            if candidate.manner is Manner.LOG_LIKELIHOOD:
                return await self._compare(todo.row, candidate)
            generation = await self._answer(todo.row, candidate, sampling)
        except (UnreadableRowError, CallError) as error:
            return {"generated_answer": None, "error": str(error)}
        answered = {
            "generated_answer": generation.text,
            "finish_reason": generation.finish_reason,
            "num_prompt_tokens": generation.num_prompt_tokens,
            "num_generated_tokens": generation.num_generated_tokens,
            "latency_seconds": generation.latency_seconds,
        }
        return answered if sampling.seed is None else {**answered, "seed": sampling.seed}

    async def _answer(self, row: Mapping[str, Any], candidate: Candidate, sampling: Sampling) -> Generation:
        caller = self._callers[candidate.model.model_id]
        if candidate.manner is Manner.COMPLETION:
            return await caller.complete(prompts.text(row), sampling)
        return await caller.chat(prompts.messages(row, candidate.system), sampling)

    async def _compare(self, row: Mapping[str, Any], candidate: Candidate) -> Mapping[str, Any]:
        """A generation of which nothing was generated: the likeliest choice, and how likely each is."""
        context, choices, continuations = prompts.text(row), prompts.choices(row), prompts.continuations(row)
        started_at = time.perf_counter()
        found = await self._callers[candidate.model.model_id].log_likelihoods(context, continuations)
        likeliest = found.log_likelihoods.index(max(found.log_likelihoods))
        return {
            "generated_answer": choices[likeliest],
            "choices": [
                {"log_likelihood": value, "num_tokens": num_tokens}
                for value, num_tokens in zip(found.log_likelihoods, found.num_tokens, strict=True)
            ],
            "is_truncated": found.is_truncated,
            "latency_seconds": time.perf_counter() - started_at,
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
        return await score_row(scorer, ask, row, generation)


async def score_row(scorer: Scorer, ask: Ask, row: Mapping[str, Any], generation: Mapping[str, Any]) -> Score:
    """The score row of an answer, with what aggregation needs to know of its row."""
    answer = generation["generated_answer"]
    if answer is None:
        return {"score": None, "error": f"There is no answer to score: {generation['error']}"}
    standing: Score = {}
    try:
        standing = _standing(row)
        choices = generation.get("choices")
        log_likelihoods = None if choices is None else [choice["log_likelihood"] for choice in choices]
        sample = Sample(prompts.input_query(row), prompts.expected_answer(row), answer, row, log_likelihoods)
        if scorer.needs_expected_answer and sample.expected_answer is None:
            raise UnreadableRowError("The row has no `answer` to compare with.", column="answer")
        score = await scorer.score(sample, ask)
    except UnreadableRowError as error:
        return {"score": None, "error": str(error)}
    except CannotScoreError as error:
        return {"score": None, "error": error.reason, **error.extras, **standing}
    if "weight" in score and "weight" in standing:
        standing = {**standing, "weight": score["weight"] * standing["weight"]}
    return {**score, **standing}


def _standing(row: Mapping[str, Any]) -> Score:
    """What aggregation needs to know of the row: how much it counts, and which rows it resembles, where it says so."""
    known = {"weight": prompts.weight(row), "cluster": prompts.cluster(row)}
    return {name: value for name, value in known.items() if value is not None}


class _Judge:
    """Whom a scoring function asks: its judge, and the model that compares texts, where it has them."""

    def __init__(self, judge: Caller | None, embedder: Caller | None) -> None:
        self._judge = judge
        self._embedder = embedder

    async def __call__(self, prompt: str, sampling: Sampling = GREEDY) -> str:
        """See `Ask`."""
        assert self._judge is not None, "this scoring function has no judge"
        try:
            reply = await self._judge.chat([{"role": "user", "content": prompt}], sampling)
        except CallError as error:
            raise CannotScoreError(f"The judge did not answer: {error}") from None
        return reply.text

    async def similarities(self, text: str, others: Sequence[str]) -> list[float]:
        """See `Ask`."""
        assert self._embedder is not None, "this scoring function compares no texts"
        try:
            return await self._embedder.rerank(text, others)
        except CallError as error:
            raise CannotScoreError(f"The embedding model did not answer: {error}") from None

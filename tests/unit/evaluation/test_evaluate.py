from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evaluation_world import World, candidate
from paddock.evaluation import plan
from paddock.evaluation.asking import Asking
from paddock.evaluation.evaluate import Todo, evaluate
from paddock.evaluation.plan import Plan
from paddock.evaluation.result_store import RowResult
from paddock.evaluation.schemas import BenchmarkConfig

JUDGE = {"llm-as-judge::base": {"type": "llm_as_judge", "judge_model": "judge"}}


def resolve(world: World, *functions: str, **config: Any) -> Plan:
    return plan.resolve(
        BenchmarkConfig.model_validate(candidate() | config),
        functions,
        world.evaluation.functions,
        world.inference,
        asking=Asking(),
        pointer="",
        functions_pointer="",
    )


def run(world: World, resolved: Plan, todos: Iterator[Todo], emit: Callable[[RowResult], None]) -> None:
    async def take(result: RowResult) -> None:
        emit(result)

    async def go() -> None:
        try:
            await evaluate(todos, resolved, world.inference, take)
        finally:
            await world.inference.close()

    asyncio.run(go())


def test_rows_are_taken_only_as_there_is_room_for_them(make_world: Callable[..., World]) -> None:
    world = make_world(lambda _: "a", delay_seconds=0.002, max_concurrency=5)
    resolved = resolve(world, "basic::equality")
    num_taken = num_done = 0
    most_ahead = 0

    def todos() -> Iterator[Todo]:
        nonlocal num_taken, most_ahead
        for index in range(100):
            num_taken += 1
            most_ahead = max(most_ahead, num_taken - num_done)
            yield Todo(index, {"question": "q", "answer": "a"}, None, resolved.function_ids)

    def count(result: RowResult) -> None:
        nonlocal num_done
        num_done += result.is_last

    run(world, resolved, todos(), count)
    assert num_done == 100
    assert most_ahead <= 5
    assert world.server.max_in_flight == 5


def test_a_few_rows_cost_no_more_for_all_that_could_be_in_flight(make_world: Callable[..., World]) -> None:
    world = make_world(lambda _: "a", max_concurrency=5000)
    resolved = resolve(world, "basic::equality")
    todos = (Todo(index, {"question": "q", "answer": "a"}, None, resolved.function_ids) for index in range(10))
    most_tasks = 0

    def count(_: RowResult) -> None:
        nonlocal most_tasks
        most_tasks = max(most_tasks, len(asyncio.all_tasks()))

    run(world, resolved, todos, count)
    assert 0 < most_tasks < 20


def test_judges_and_pupils_are_asked_at_the_same_time_within_the_bound(make_world: Callable[..., World]) -> None:
    world = make_world(lambda body: "Score: 1" if body["model"] == "judge" else "a", delay_seconds=0.005)
    resolved = resolve(world, "llm-as-judge::base", "basic::equality", scoring_params=JUDGE)
    results: list[RowResult] = []
    rows = [{"question": "q", "answer": "a"}] * 30
    run(world, resolved, (Todo(i, row, None, resolved.function_ids) for i, row in enumerate(rows)), results.append)
    assert world.server.max_in_flight == 4
    assert sum(result.is_last for result in results) == 30
    assert sum(result.generation is not None for result in results) == 30
    order = [body["model"] for _, body, _ in world.server.requests]
    assert order.index("judge") < 29  # the first verdict was asked for before the last answer


def test_a_known_answer_is_scored_and_nobody_is_asked(make_world: Callable[..., World]) -> None:
    world = make_world(lambda _: "never")
    resolved = resolve(world, "basic::equality")
    results: list[RowResult] = []
    todo = Todo(3, {"answer": "a"}, {"generated_answer": "a"}, resolved.function_ids)
    run(world, resolved, iter([todo]), results.append)
    assert results == [RowResult(3, scores={"basic::equality": {"score": 1.0}}, is_last=True)]
    assert world.server.requests == []


def test_a_source_that_breaks_ends_the_evaluation_with_its_error(make_world: Callable[..., World]) -> None:
    world = make_world(lambda _: "a")
    resolved = resolve(world, "basic::equality")

    def todos() -> Iterator[Todo]:
        yield Todo(0, {"question": "q", "answer": "a"}, None, resolved.function_ids)
        raise LookupError("the rows are gone")

    with pytest.raises(LookupError, match="rows are gone"):
        run(world, resolved, todos(), lambda _: None)

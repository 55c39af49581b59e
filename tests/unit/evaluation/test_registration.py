from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation_world import World
from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.evaluation import registration

ROWS = [{"question": "q", "answer": "a"}]
BENCHMARK = {"benchmark_id": "bench", "dataset_id": "exam", "scoring_functions": ["basic::equality"]}
FUNCTION = {"scoring_fn_id": "my/judge", "description": "Mine.", "return_type": {"type": "number"}}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(lambda _: "x")
    world.add_dataset(ROWS)
    return world


def add_benchmark(world: World, *, replace: bool = False, **changes: Any) -> None:
    registration.register_benchmark_entry(world.evaluation, world.datasets, BENCHMARK | changes, replace=replace)


def add_function(world: World, *, replace: bool = False, **changes: Any) -> None:
    registration.register_scoring_function_entry(world.evaluation, world.inference, FUNCTION | changes, replace=replace)


def test_a_benchmark_is_kept_as_it_was_sent(world: World) -> None:
    add_benchmark(world, metadata={"level": 3, "big": 2**70}, provider_benchmark_id="b1", provider_id="p")
    stored = world.evaluation.benchmarks.get("bench")
    assert (stored.dataset_id, stored.scoring_functions) == ("exam", ("basic::equality",))
    assert (stored.metadata, stored.provider_id, stored.provider_benchmark_id) == (
        {"level": 3, "big": 2**70},
        "p",
        "b1",
    )


def test_the_same_benchmark_again_is_fine_and_another_is_not(world: World) -> None:
    add_benchmark(world)
    add_benchmark(world)
    with pytest.raises(ConflictError):
        add_benchmark(world, scoring_functions=["basic::subset_of"])
    assert world.evaluation.benchmarks.get("bench").scoring_functions == ("basic::equality",)
    add_benchmark(world, scoring_functions=["basic::subset_of"], replace=True)
    assert world.evaluation.benchmarks.get("bench").scoring_functions == ("basic::subset_of",)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"dataset_id": "none"}, "/dataset_id"),
        ({"scoring_functions": ["basic::equality", "no::such"]}, "/scoring_functions/1"),
        ({"benchmark_id": "../x"}, "/benchmark_id"),
        ({"scoring_functions": "basic::equality"}, "/scoring_functions"),
        ({"scoring_fucntions": []}, "/scoring_fucntions"),
    ],
)
def test_a_benchmark_that_cannot_be_right(world: World, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        add_benchmark(world, **changes)
    assert caught.value.errors[0].pointer == pointer
    assert world.evaluation.benchmarks.list() == []


def test_a_benchmark_that_a_live_job_runs_stays(world: World) -> None:
    add_benchmark(world)
    job_id = world.submit()
    with pytest.raises(ConflictError, match=job_id):
        world.evaluation.benchmarks.remove("bench")
    with pytest.raises(ConflictError, match=job_id):
        add_benchmark(world, scoring_functions=["basic::subset_of"], replace=True)
    world.jobs.cancel(job_id)
    world.evaluation.benchmarks.remove("bench")
    with pytest.raises(NotFoundError):
        world.evaluation.benchmarks.remove("bench")


def test_a_dataset_that_a_benchmark_names_stays(world: World) -> None:
    add_benchmark(world)
    with pytest.raises(ConflictError):
        world.datasets.remove("exam")
    world.evaluation.benchmarks.remove("bench")
    world.datasets.remove("exam")


def test_a_registered_function_has_its_own_parameters_over_those_of_its_kind(world: World) -> None:
    add_function(world, params={"type": "regex_parser", "parsing_regexes": ["x(.)"]})
    definition = world.evaluation.functions.define("my/judge")
    assert definition is not None
    assert definition.kind == "basic::regex_parser_multiple_choice_answer"
    assert definition.defaults.parsing_regexes == ["x(.)"]
    assert definition.defaults.aggregation_functions == ["accuracy"]


def test_a_function_without_parameters_is_equality(world: World) -> None:
    add_function(world)
    definition = world.evaluation.functions.define("my/judge")
    assert definition is not None
    assert definition.kind == "basic::equality"


def test_the_same_function_again_is_fine_and_another_is_not(world: World) -> None:
    add_function(world)
    add_function(world)
    with pytest.raises(ConflictError):
        add_function(world, description="Another.")
    add_function(world, description="Another.", replace=True)
    assert [function.description for function in world.evaluation.functions.list()] == ["Another."]


def test_what_comes_with_paddock_cannot_be_replaced_or_removed(world: World) -> None:
    with pytest.raises(ConflictError):
        add_function(world, scoring_fn_id="basic::equality", replace=True)
    with pytest.raises(ConflictError):
        world.evaluation.functions.remove("basic::equality")


def test_a_function_that_a_benchmark_names_stays(world: World) -> None:
    add_function(world)
    add_benchmark(world, scoring_functions=["my/judge"])
    with pytest.raises(ConflictError, match="bench"):
        world.evaluation.functions.remove("my/judge")
    world.evaluation.benchmarks.remove("bench")
    world.evaluation.functions.remove("my/judge")
    with pytest.raises(NotFoundError):
        world.evaluation.functions.remove("my/judge")


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"type": "regex_parser", "parsing_regexes": ["("]}, "/params/parsing_regexes/0"),
        ({"type": "llm_as_judge", "judge_model": "nobody"}, "/params/judge_model"),
        ({"type": "llm_as_judge", "judge_model": "judge", "prompt_template": "x"}, "/params/prompt_template"),
    ],
)
def test_a_function_that_cannot_be_right(world: World, params: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        add_function(world, params=params)
    assert caught.value.errors[0].pointer == pointer

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation_world import World, candidate
from paddock.errors import ConflictError, InvalidRequestError, NotFoundError
from paddock.evaluation import submission
from paddock.evaluation.schemas import BenchmarkConfig

GOOD = {"question": "q", "answer": "a"}
JUDGE = {
    "llm-as-judge::base": {"type": "llm_as_judge", "judge_model": "judge", "prompt_template": "{generated_answer}"}
}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(lambda _: "x")


def refused(world: World, config: dict[str, Any] | None = None) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        world.submit(config)
    assert world.jobs.list() == []
    assert [error.pointer for error in caught.value.errors] == ["benchmark_id"]
    return caught.value.detail


def test_a_job_records_what_was_asked_and_what_was_resolved(world: World) -> None:
    world.add_dataset([GOOD] * 5)
    world.add_benchmark()
    job = world.jobs.get(world.submit(candidate(max_tokens=7) | {"num_examples": 3}))
    assert (job.kind, job.benchmark_id) == ("eval", "bench")
    assert job.request["benchmark_config"] == {
        "eval_candidate": {"model": "pupil", "sampling_params": {"max_tokens": 7}},
        "num_examples": 3,
    }
    assert job.request["num_rows"] == 3
    assert job.request["plan"]["candidate"]["sampling"]["max_tokens"] == 7
    (version,) = job.reads
    assert (version.dataset_id, version.num_rows) == ("exam", 5)


def test_an_unknown_benchmark(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.submit()


def test_a_dataset_without_rows(world: World) -> None:
    world.add_dataset([])
    world.add_benchmark()
    assert "no rows" in refused(world)


def test_a_benchmark_without_functions(world: World) -> None:
    world.add_dataset([GOOD])
    config = BenchmarkConfig.model_validate(candidate())
    world.add_benchmark("basic::equality")
    stored = world.evaluation.benchmarks.get("bench")
    with world.database.write() as connection:
        world.evaluation.benchmarks.register(
            connection, stored.__class__(**{**vars(stored), "scoring_functions": ()}), replace=True
        )
    with pytest.raises(InvalidRequestError, match="names no scoring functions"):
        submission.check("bench", config, world.evaluation, world.datasets, world.inference)


@pytest.mark.parametrize(
    ("row", "column"),
    [({"answer": "a"}, "question"), ({"question": "q"}, "answer"), ({"question": None, "answer": "a"}, "question")],
)
@pytest.mark.parametrize("index", [0, 7, 250])
def test_a_row_that_lacks_a_column_is_named(world: World, row: dict[str, Any], column: str, index: int) -> None:
    world.add_dataset([GOOD] * index + [row] + [GOOD] * 3)
    world.add_benchmark()
    detail = refused(world)
    assert f"Row {index} " in detail
    assert f"`{column}`" in detail


def test_a_row_that_the_job_will_not_read_may_lack_anything(world: World) -> None:
    world.add_dataset([GOOD] * 5 + [{}])
    world.add_benchmark()
    world.submit(candidate() | {"num_examples": 5})


def test_a_judge_that_sees_no_expected_answer_needs_none(world: World) -> None:
    world.add_dataset([{"question": "q"}])
    world.add_benchmark("llm-as-judge::base")
    world.submit(candidate() | {"scoring_params": JUDGE})


def test_the_older_columns_are_columns_too(world: World) -> None:
    world.add_dataset(
        [{"input_query": "q", "expected_answer": "a", "chat_completion_input": '[{"role":"user","content":"q"}]'}]
    )
    world.add_benchmark()
    world.submit()


def test_a_row_that_has_its_columns_and_cannot_be_read_is_not_refused(world: World) -> None:
    world.add_dataset([GOOD, {"messages": "no json", "answer": "a", "question": "q"}])
    world.add_benchmark()
    world.submit()


def test_a_benchmark_that_changed_while_the_job_was_checked(world: World) -> None:
    world.add_dataset([GOOD])
    world.add_benchmark()
    config = BenchmarkConfig.model_validate(candidate())
    checked = submission.check("bench", config, world.evaluation, world.datasets, world.inference)
    world.evaluation.benchmarks.remove("bench")
    with pytest.raises(ConflictError):
        world.evaluation.submit(checked.new, checked.benchmark, world.datasets, None)
    assert world.jobs.list() == []


def test_a_column_of_the_functions_own_that_a_row_lacks(world: World) -> None:
    row = {"prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    world.add_dataset([row, {"prompt": "q"}])
    world.add_benchmark("basic::ifeval")
    assert "Row 1 of the dataset 'exam' has no `instruction_id_list`" in refused(world)
    world.submit(candidate() | {"num_examples": 1})

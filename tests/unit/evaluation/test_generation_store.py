"""Greedy generations that jobs share: asked once, by all that the answer depends on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from evaluation_world import World, candidate
from paddock.evaluation import answer
from paddock.evaluation.generation_store import GenerationCache
from paddock.evaluation.plan import Candidate
from paddock.inference.engine import Model, Sampling
from paddock.storage.tables import cached_generations

ROWS = [{"question": f"q{i}", "answer": "a"} for i in range(5)]
JUDGED = {"llm-as-judge::base": {"type": "llm_as_judge", "judge_model": "judge"}}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(lambda body: "Score: 1" if body["model"] == "judge" else "a")
    world.add_dataset(ROWS)
    world.add_benchmark("basic::equality")
    world.evaluation.generation_cache = GenerationCache(world.database, 1000)
    return world


def result(world: World, job_id: str) -> dict[str, Any]:
    return json.loads("".join(answer.stream(world.jobs.get(job_id), world.evaluation.results)))


def run(world: World, config: dict[str, Any] | None = None, benchmark_id: str = "bench") -> tuple[dict[str, Any], int]:
    """The result of a job, and how often a model was asked for it."""
    before = len(world.server.requests)
    job = world.run(world.submit(config, benchmark_id))
    return result(world, job.job_id), len(world.server.requests) - before


def num_cached(world: World) -> int:
    with world.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(cached_generations)).scalar_one()


def test_what_was_asked_before_is_not_asked_again(world: World) -> None:
    first, num_first = run(world)
    second, num_second = run(world)
    assert (num_first, num_second) == (5, 0)
    assert second["scores"] == first["scores"]
    assert second["generations"] == [{**generation, "cached": True} for generation in first["generations"]]


def test_other_parameters_another_model_and_drawn_answers_are_asked(world: World) -> None:
    run(world)
    drawn = {"strategy": {"type": "top_k", "top_k": 3}}
    system = candidate()
    system["eval_candidate"]["system_message"] = {"role": "system", "content": "Be brief."}
    for config in (candidate(max_tokens=3), candidate(model="judge"), system, candidate(**drawn), candidate(**drawn)):
        assert run(world, config)[1] == 5


def test_it_is_off_by_default(make_world: Callable[..., World]) -> None:
    world = make_world(lambda _: "a")
    world.add_dataset(ROWS)
    world.add_benchmark("basic::equality")
    assert [run(world)[1], run(world)[1]] == [5, 5]
    assert num_cached(world) == 0


def test_a_judge_is_asked_each_time(world: World) -> None:
    world.add_benchmark("llm-as-judge::base", benchmark_id="judged")
    config = candidate() | {"scoring_params": JUDGED}
    assert [run(world, config, "judged")[1], run(world, config, "judged")[1]] == [10, 5]


def test_failures_are_not_kept(world: World) -> None:
    from aiohttp import web

    world.server.answer = lambda body: "a" if "q0" in str(body) else web.Response(status=400, text="no")
    run(world)
    assert num_cached(world) == 1
    world.server.answer = lambda _: "a"
    assert run(world)[1] == 4


def test_it_has_a_bound_and_turned_off_it_is_emptied(world: World) -> None:
    run(world)
    world.evaluation.generation_cache = GenerationCache(world.database, 2)
    world.evaluation.generation_cache.prune()
    assert num_cached(world) == 2
    GenerationCache(world.database, 0).prune()
    assert num_cached(world) == 0


def test_a_models_files_and_its_providers_address_are_part_of_the_key(world: World, tmp_path: Path) -> None:
    rows = {0: ROWS[0]}
    local = Candidate(Model("m", "local", str(tmp_path)), Sampling(), None)
    (tmp_path / "weights").write_text("1")
    cache = GenerationCache(world.database, 10)
    before = cache.keys(rows, local)
    assert (
        cache.keys(rows, dataclasses.replace(local, model=dataclasses.replace(local.model, created_at=5.0))) == before
    )
    (tmp_path / "weights").write_text("12")
    assert cache.keys(rows, local) != before
    remote = dataclasses.replace(local, model=Model("m", "lab", "m"))
    keys = [GenerationCache(world.database, 10, {"lab": url}).keys(rows, remote)[0] for url in ("http://a", "http://b")]
    assert len(set(keys)) == 2


def test_a_row_that_cannot_be_read_has_no_key(world: World) -> None:
    candidate_ = Candidate(Model("m", "lab", "m"), Sampling(), None)
    assert GenerationCache(world.database, 10).keys({0: {"question": {}}, 1: ROWS[0]}, candidate_).keys() == {1}


def test_the_manner_of_asking_is_part_of_the_key(world: World) -> None:
    run(world)
    world.add_benchmark(benchmark_id="continued", metadata={"asking": {"manner": "completion"}})
    assert run(world, benchmark_id="continued")[1] == 5
    assert run(world, benchmark_id="continued")[1] == 0
    assert num_cached(world) == 10


def test_choices_are_compared_once(make_world: Callable[..., World]) -> None:
    def echo(body: dict[str, Any]) -> dict[str, Any]:
        texts = enumerate(body["prompt"])
        told = [
            (i, text, {"token_logprobs": [None, *(-float(ord(letter)) for letter in text[1:])]}) for i, text in texts
        ]
        return {"choices": [{"index": i, "text": text, "logprobs": log_probs} for i, text, log_probs in told]}

    world = make_world(echo)
    world.evaluation.generation_cache = GenerationCache(world.database, 1000)
    world.add_dataset(
        [{"question": "q", "choices": ["a", "b"], "answer": 0}, {"question": "q", "choices": ["a", "c"], "answer": 1}]
    )
    world.add_benchmark("loglikelihood::acc")
    first, num_first = run(world)
    second, num_second = run(world)
    assert (num_first, num_second) == (2, 0)
    assert [row["score"] for row in first["scores"]["loglikelihood::acc"]["score_rows"]] == [1.0, 0.0]
    assert second["scores"] == first["scores"]

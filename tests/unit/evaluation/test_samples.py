"""Several answers to one row: drawn by seeds, stored one by one, told together; and pass@k."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock.errors import InvalidRequestError
from paddock.evaluation import answer, comparison
from paddock.evaluation.samples import PassAtK, pass_at_k, score_of
from paddock.jobs.progress import Progress
from paddock.jobs.states import JobStatus

MakeWorld = Callable[..., World]
SAMPLED = {"strategy": {"type": "top_p", "temperature": 1.0, "top_p": 1.0}}


def result(world: World, job_id: str) -> dict[str, Any]:
    return json.loads("".join(answer.stream(world.jobs.get(job_id), world.evaluation.results)))


def by_seed(body: dict[str, Any]) -> str:
    """Right for every third seed of the row that asks about a, and for every seed of the one that asks about b."""
    return "yes" if last_user_text(body) == "b" or body["seed"] % 3 == 0 else "no"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world(by_seed, max_concurrency=8)
    world.add_dataset([{"question": "a", "answer": "yes"}, {"question": "b", "answer": "yes"}])
    world.add_benchmark("basic::equality")
    return world


def test_each_sample_is_drawn_from_a_seed_of_its_own_that_is_recorded(world: World) -> None:
    config = candidate(**SAMPLED) | {"num_samples": 6, "pass_at_k": [1, 2, 6], "seed": 30}
    job = world.run(world.submit(config))
    assert job.progress == {"done": 12, "total": 12, "unit": "rows"}
    found = result(world, job.job_id)
    assert [[sample["seed"] for sample in row["samples"]] for row in found["generations"]] == [
        list(range(30, 36)),
        list(range(36, 42)),
    ]
    assert sorted(body["seed"] for _, body, _ in world.server.requests) == list(range(30, 42))
    first, second = found["scores"]["basic::equality"]["score_rows"]
    assert [sample["score"] for sample in first["samples"]] == [1, 0, 0, 1, 0, 0]
    assert (first["score"], second["score"]) == (pytest.approx(1 / 3), 1.0)
    aggregated = found["scores"]["basic::equality"]["aggregated_results"]
    assert aggregated["accuracy"]["accuracy"] == pytest.approx(8 / 12)
    # Samples of one row resemble each other: two clusters, not twelve rows.
    assert (aggregated["accuracy"]["num_total"], aggregated["accuracy"]["num_clusters"]) == (12, 2)
    assert aggregated["pass@1"]["pass@1"] == pytest.approx((1 / 3 + 1) / 2)
    assert aggregated["pass@2"]["pass@2"] == pytest.approx((1 - 6 / 15 + 1) / 2)  # C(4, 2) / C(6, 2)
    assert aggregated["pass@6"]["pass@6"] == 1.0
    assert (aggregated["pass@2"]["num_total"], aggregated["pass@2"]["num_failed"]) == (2, 0)
    assert aggregated["pass@2"]["ci95"] is not None


def test_a_seed_is_chosen_and_kept_where_none_is_given(world: World) -> None:
    job = world.run(world.submit(candidate(**SAMPLED)))
    seed = job.request["plan"]["candidate"]["sampling"]["seed"]
    assert [generation["seed"] for generation in result(world, job.job_id)["generations"]] == [seed, seed + 1]
    again = candidate(**SAMPLED) | {"seed": seed}
    assert result(world, world.run(world.submit(again)).job_id)["scores"] == result(world, job.job_id)["scores"]


def test_a_greedy_run_sends_no_seed(make_world: MakeWorld) -> None:
    world = make_world(lambda _: "yes")
    world.add_dataset([{"question": "a", "answer": "yes"}])
    world.add_benchmark("basic::equality")
    job = world.run(world.submit())
    assert "seed" not in world.server.requests[0][1]
    assert "seed" not in result(world, job.job_id)["generations"][0]


def test_samples_that_were_recorded_are_not_drawn_again(world: World) -> None:
    config = candidate(**SAMPLED) | {"num_samples": 20, "seed": 0}
    job_id = world.submit(config)

    def stop_soon(progress: Progress) -> None:
        def ask_to_stop(body: dict[str, Any]) -> str:
            if body["seed"] == 3:
                progress.ask_to_stop()
            return by_seed(body)

        world.server.answer = ask_to_stop

    assert world.run(job_id, meanwhile=stop_soon).status is JobStatus.SCHEDULED
    world.server.answer = by_seed
    assert world.run(job_id).status is JobStatus.COMPLETED
    seeds = [body["seed"] for _, body, _ in world.server.requests]
    assert sorted(seeds) == list(range(40))


def test_jobs_are_compared_by_their_rows(world: World) -> None:
    config = candidate(**SAMPLED) | {"num_samples": 3, "seed": 0}
    several = world.run(world.submit(config))
    world.server.answer = lambda _: "yes"
    once = world.run(world.submit())
    (found,) = comparison.compare([several, once], world.evaluation.results, "holm")
    assert (found.num_compared, found.num_total) == (2, 2)
    assert found.baseline_mean == pytest.approx((1 / 3 + 1) / 2)
    assert found.difference == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"num_samples": 2}, "/num_samples"),
        ({"seed": 1}, "/seed"),
        ({"pass_at_k": [2]}, "/pass_at_k/0"),
        ({"pass_at_k": [1, 0]}, "/pass_at_k/1"),
    ],
)
def test_what_changes_nothing_is_refused(world: World, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        world.submit(candidate() | changes)
    assert caught.value.errors[0].pointer == pointer


def test_pass_at_k_is_the_share_of_choices_with_a_right_one() -> None:
    """By counting all choices of k among n samples."""
    for n in range(1, 8):
        for num_right in range(n + 1):
            for k in range(1, n + 1):
                choices = list(itertools.combinations([index < num_right for index in range(n)], k))
                assert pass_at_k(n, num_right, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_k_by_the_papers_product() -> None:
    for n, num_right, k in [(200, 7, 100), (200, 1, 10), (1000, 999, 2), (100, 0, 100)]:
        product = math.prod(1 - k / i for i in range(n - num_right + 1, n + 1))
        assert pass_at_k(n, num_right, k) == pytest.approx(1 - product, abs=1e-12)


def test_failed_samples_are_left_out_and_too_few_fail_the_row() -> None:
    told = PassAtK([1, 3])
    told.add([{"score": 1}, {"score": None, "error": "e"}, {"score": 0}])
    told.add([{"score": 0}] * 3)
    found = told.results()
    assert (found["pass@1"]["pass@1"], found["pass@1"]["num_failed"]) == (0.25, 0)
    assert (found["pass@3"]["pass@3"], found["pass@3"]["num_failed"]) == (0.0, 1)


@pytest.mark.parametrize(
    ("scores", "score"), [([1, 0, None], 0.5), (["A", "B", "B"], "B"), ([1, "A", "A"], "A"), ([None, None, None], None)]
)
def test_a_rows_score(scores: list[Any], score: Any) -> None:
    samples = [{"score": s} if s is not None else {"score": None, "error": "e"} for s in scores]
    found = score_of([{**sample, "weight": 2.0} for sample in samples])
    assert (found["score"], found["weight"], len(found["samples"])) == (score, 2.0, 3)
    assert found.get("error") == ("e" if score is None else None)

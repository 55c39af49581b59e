"""Comparing jobs over HTTP, on evaluations that ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from fastapi.testclient import TestClient

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock.evaluation import routes
from paddock.evaluation.statistics import pairs
from paddock.server import answers

NUM_ROWS = 40


def answer(body: dict[str, Any]) -> Any:
    """`pupil` knows the even rows, `judge` (as a candidate) all but every fifth, and neither row 7 fails for."""
    number = int(last_user_text(body))
    if body["model"] == "pupil":
        return "right" if number % 2 == 0 else "wrong"
    return "wrong" if number % 5 == 0 else "right"


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(answer)
    world.add_dataset([{"question": str(i), "answer": "right"} for i in range(NUM_ROWS)])
    world.add_benchmark()
    return world


@pytest.fixture
def http(world: World) -> TestClient:
    app = FastAPI()
    app.include_router(routes.router)
    answers.install(app)
    app.state.evaluation = world.evaluation
    return TestClient(app)


def run(world: World, model: str, **more: Any) -> str:
    job_id = world.submit(candidate(model) | more)
    assert world.run(job_id).status == "completed"
    return job_id


def compare(http: TestClient, *jobs: str, status: int = 200, **parameters: Any) -> Any:
    response = http.get("/v1alpha/eval/comparisons", params={"job_id": list(jobs), **parameters})
    assert response.status_code == status, response.text
    return response.json()


def test_right_and_wrong_are_compared_by_mcnemar(world: World, http: TestClient) -> None:
    pupil, other = run(world, "pupil"), run(world, "judge")
    (found,) = compare(http, pupil, other)["data"]
    # Even rows that are multiples of 5 (4 of 40) only the pupil gets right; odd ones that are none (16) only the other.
    assert (found["num_only_baseline_right"], found["num_only_right"]) == (4, 16)
    assert (found["baseline_mean"], found["mean"], found["difference"]) == (0.5, 0.8, pytest.approx(0.3))
    assert (found["num_total"], found["num_compared"], found["num_flipped"]) == (40, 40, 20)
    assert found["flipped_rows"][:5] == [0, 1, 3, 7, 9]
    assert found["test"] == "mcnemar"
    assert (found["p_value"], found["p_mid"]) == pytest.approx(pairs.mcnemar(4, 16))
    assert found["adjusted_p_value"] == found["p_value"]
    assert found["ci95"] == pytest.approx(pairs.difference_of_proportions(4, 16, 40))
    (back,) = compare(http, other, pupil)["data"]
    assert back["difference"] == -found["difference"]
    assert (back["baseline_model"], back["model"]) == ("judge", "pupil")


def test_several_comparisons_are_adjusted_together(world: World, http: TestClient) -> None:
    jobs = [run(world, model) for model in ("pupil", "judge", "pupil")]
    better, same = compare(http, *jobs)["data"]
    assert (same["num_flipped"], same["p_value"], same["adjusted_p_value"]) == (0, 1.0, 1.0)
    assert better["adjusted_p_value"] == pytest.approx(2 * better["p_value"])
    less_strict = compare(http, *jobs, adjustment="benjamini-hochberg")["data"]
    assert less_strict[0]["adjusted_p_value"] == pytest.approx(2 * better["p_value"])
    assert less_strict[1]["adjusted_p_value"] == 1.0


def test_clusters_and_other_numbers_are_compared_by_their_differences(world: World, http: TestClient) -> None:
    rows = [{"question": str(i), "answer": "right", "cluster": i // 4} for i in range(NUM_ROWS)]
    world.add_dataset(rows, "texts")
    world.add_benchmark(benchmark_id="on-texts", dataset_id="texts")
    jobs = []
    for model in ("pupil", "judge"):
        job_id = world.submit(candidate(model), "on-texts")
        world.run(job_id)
        jobs.append(job_id)
    (found,) = compare(http, *jobs)["data"]
    assert (found["test"], found["num_clusters"], found["p_mid"]) == ("paired t", 10, None)
    assert found["difference"] == pytest.approx(0.3)
    low, high = found["ci95"]
    assert low < 0.3 < high
    assert found["smallest_detectable_difference"] == pytest.approx(2.8015852 * found["stderr"])


def test_only_the_same_rows_are_compared(world: World, http: TestClient) -> None:
    pupil = run(world, "pupil")
    fewer = run(world, "judge", num_examples=10)
    error = compare(http, pupil, fewer, status=400)
    assert "40 and 10 rows" in error["detail"]
    assert error["errors"][0]["pointer"] == "job_id"

    world.add_dataset([{"question": str(i), "answer": "right"} for i in range(NUM_ROWS)], "others")
    world.add_benchmark(benchmark_id="on-others", dataset_id="others")
    other = world.submit(candidate("pupil"), "on-others")
    world.run(other)
    assert "different datasets" in compare(http, pupil, other, status=400)["detail"]


def test_only_the_same_measure_is_compared(world: World, http: TestClient) -> None:
    function = "basic::regex_parser_multiple_choice_answer"
    world.add_benchmark(function, benchmark_id="choice")
    jobs = []
    for regex in ("(right)", "(wrong)"):
        params = {function: {"type": "regex_parser", "parsing_regexes": [regex]}}
        job_id = world.submit(candidate() | {"scoring_params": params}, "choice")
        world.run(job_id)
        jobs.append(job_id)
    assert "same parameters" in compare(http, *jobs, status=400)["detail"]


def test_jobs_that_cannot_be_compared_yet_or_at_all(world: World, http: TestClient) -> None:
    pupil = run(world, "pupil")
    waiting = world.submit(candidate("judge"))
    assert "scheduled" in compare(http, pupil, waiting, status=409)["detail"]
    assert "nobody" in compare(http, pupil, "nobody", status=404)["detail"]
    assert "2 to 20" in compare(http, pupil, status=400)["detail"]
    assert "2 to 20" in compare(http, pupil, pupil, status=400)["detail"]


def test_rows_that_failed_on_either_side_are_left_out_and_counted(make_world: Callable[..., World]) -> None:
    def sometimes(body: dict[str, Any]) -> Any:
        number = int(last_user_text(body))
        if body["model"] == "pupil" and number == 3:
            return web.json_response({"error": {"message": "No."}}, status=400)
        return "right"

    world = make_world(sometimes)
    world.add_dataset([{"question": str(i), "answer": "right"} for i in range(12)])
    world.add_benchmark()
    jobs = [run(world, "pupil"), run(world, "judge")]
    app = FastAPI()
    app.include_router(routes.router)
    app.state.evaluation = world.evaluation
    (found,) = compare(TestClient(app), *jobs)["data"]
    assert (found["num_total"], found["num_compared"], found["num_flipped"]) == (12, 11, 0)

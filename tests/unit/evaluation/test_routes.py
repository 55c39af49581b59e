from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from fastapi.testclient import TestClient

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock import wire
from paddock.evaluation import routes
from paddock.server import answers

BENCHMARKS = "/v1alpha/eval/benchmarks"
ROWS = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(4)]


def right(body: dict[str, Any]) -> str:
    return last_user_text(body).replace("q", "a")


class Site:
    """The routes over a world, and how often the worker was woken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.num_wakes = 0
        self.app = FastAPI(redirect_slashes=False)
        self.app.include_router(routes.router)
        answers.install(self.app)
        state = self.app.state
        state.settings, state.evaluation, state.datasets = world.settings, world.evaluation, world.datasets
        state.inference, state.jobs, state.wake_worker = world.inference, world.jobs, self._wake
        self.client = TestClient(self.app)

    def _wake(self) -> None:
        self.num_wakes += 1

    def submit(self, body: dict[str, Any] | None = None, benchmark_id: str = "bench", **headers: str) -> Any:
        return self.client.post(f"{BENCHMARKS}/{benchmark_id}/jobs", json=body or candidate(), headers=headers)

    def evaluate(self, body: dict[str, Any], benchmark_id: str = "bench", **headers: str) -> Any:
        return self.client.post(f"{BENCHMARKS}/{benchmark_id}/evaluations", json=body, headers=headers)


@pytest.fixture
def make_site(make_world: Callable[..., World]) -> Callable[..., Site]:
    def make(answer: Any = right, **options: Any) -> Site:
        world = make_world(answer, **options)
        world.add_dataset(ROWS)
        world.add_benchmark()
        return Site(world)

    return make


def rows_request(
    *rows: dict[str, Any], functions: tuple[str, ...] = ("basic::equality",), **config: Any
) -> dict[str, Any]:
    return {
        "input_rows": list(rows or ROWS),
        "scoring_functions": list(functions),
        "benchmark_config": candidate() | config,
    }


# ---------------------------------------------------------------------------------------------------- benchmarks


def test_benchmarks_are_listed_and_shown(make_site: Callable[..., Site]) -> None:
    client = make_site().client
    shown = client.get(f"{BENCHMARKS}/bench").json()
    assert shown == {
        "identifier": "bench",
        "provider_resource_id": "bench",
        "provider_id": "paddock",
        "type": "benchmark",
        "dataset_id": "exam",
        "scoring_functions": ["basic::equality"],
        "metadata": {},
    }
    assert client.get(BENCHMARKS).json() == {"data": [shown]}
    assert client.get(f"{BENCHMARKS}/none").status_code == 404


@pytest.mark.parametrize("benchmark_id", ["meta/mmlu", "basic::x", "a/evaluation"])
def test_benchmarks_under_ids_of_every_kind(make_site: Callable[..., Site], benchmark_id: str) -> None:
    site = make_site()
    body = {"benchmark_id": benchmark_id, "dataset_id": "exam", "scoring_functions": ["basic::subset_of"]}
    assert site.client.post(BENCHMARKS, json=body).status_code == 200
    for path in (benchmark_id, benchmark_id.replace("/", "%2F")):
        assert site.client.get(f"{BENCHMARKS}/{path}").json()["identifier"] == benchmark_id
    job_id = site.submit(benchmark_id=benchmark_id).json()["job_id"]
    assert site.client.get(f"{BENCHMARKS}/{benchmark_id}/jobs/{job_id}").json()["status"] == "scheduled"
    assert site.client.delete(f"{BENCHMARKS}/{benchmark_id}").status_code == 409
    assert site.client.delete(f"{BENCHMARKS}/{benchmark_id}/jobs/{job_id}").status_code == 200
    assert site.client.delete(f"{BENCHMARKS}/{benchmark_id}").status_code == 200
    assert site.client.get(f"{BENCHMARKS}/{benchmark_id}").status_code == 404


def test_a_benchmark_of_nothing_is_refused(make_site: Callable[..., Site]) -> None:
    body = {"benchmark_id": "b", "dataset_id": "none", "scoring_functions": ["basic::equality"]}
    response = make_site().client.post(BENCHMARKS, json=body)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/dataset_id")


# ---------------------------------------------------------------------------------------------------- jobs


def test_a_job_from_its_submission_to_its_result(make_site: Callable[..., Site]) -> None:
    site = make_site()
    answer = site.submit()
    assert answer.status_code == 200
    job_id = answer.json()["job_id"]
    assert answer.json() == {"job_id": job_id, "status": "scheduled"}
    assert site.num_wakes == 1
    job = f"{BENCHMARKS}/bench/jobs/{job_id}"
    early = site.client.get(f"{job}/result")
    assert (early.status_code, early.headers["x-should-retry"]) == (409, "false")

    site.world.run(job_id)
    progress = {"done": 4, "total": 4, "unit": "rows"}
    assert site.client.get(job).json() == {"job_id": job_id, "status": "completed", "progress": progress}
    result = site.client.get(f"{job}/result").json()
    assert [g["generated_answer"] for g in result["generations"]] == ["a0", "a1", "a2", "a3"]
    assert result["scores"]["basic::equality"]["score_rows"] == [{"score": 1.0}] * 4
    assert result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]["accuracy"] == 1.0
    assert site.client.delete(job).status_code == 409


def test_a_job_is_unknown_under_another_benchmark(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.world.add_benchmark(benchmark_id="other")
    job_id = site.submit().json()["job_id"]
    for path in (f"other/jobs/{job_id}", f"other/jobs/{job_id}/result", "bench/jobs/none", "bench/jobs/none/result"):
        assert site.client.get(f"{BENCHMARKS}/{path}").status_code == 404
    assert site.client.delete(f"{BENCHMARKS}/other/jobs/{job_id}").status_code == 404
    assert site.client.get(f"{BENCHMARKS}/bench/jobs/{job_id}").json()["status"] == "scheduled"


def test_cancelling_twice_is_fine_and_the_result_is_what_there_is(make_site: Callable[..., Site]) -> None:
    site = make_site()
    job = f"{BENCHMARKS}/bench/jobs/{site.submit().json()['job_id']}"
    for _ in range(2):
        response = site.client.delete(job)
        assert (response.status_code, response.json()) == (200, None)
    assert site.client.get(job).json()["status"] == "cancelled"
    assert site.client.get(f"{job}/result").json()["generations"] == []
    assert site.num_wakes == 3


def test_a_failed_job_says_why(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda _: {"choices": []})
    job_id = site.submit().json()["job_id"]
    site.world.run(job_id)
    status = site.client.get(f"{BENCHMARKS}/bench/jobs/{job_id}").json()
    assert (status["status"], status["put_off"]) == ("scheduled", "The provider lab answered without a choice.")
    site.world.run_to_end(job_id)
    status = site.client.get(f"{BENCHMARKS}/bench/jobs/{job_id}").json()
    assert status["status"] == "failed"
    assert "without a choice" in status["error"]
    assert site.client.get(f"{BENCHMARKS}/bench/jobs/{job_id}/result").json()["generations"] == []


def test_a_configuration_may_come_wrapped(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.submit({"benchmark_config": candidate()}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (candidate("nobody"), "/eval_candidate/model"),
        ({"benchmark_config": candidate("nobody")}, "/benchmark_config/eval_candidate/model"),
        (
            {"benchmark_config": {"eval_candidate": {"model": "pupil"}}},
            "/benchmark_config/eval_candidate/sampling_params",
        ),
        ({"eval_candidate": {"sampling_params": {}}}, "/eval_candidate/model"),
        (
            candidate(strategy={"type": "top_k", "top_k": 0}),
            "/eval_candidate/sampling_params/strategy/top_k",
        ),
        (candidate(max_tokens=-1), "/eval_candidate/sampling_params/max_tokens"),
        (candidate() | {"scoring_params": {"x": {"type": "basic"}}}, "/scoring_params/x"),
        (candidate() | {"num_examples": 0}, "/num_examples"),
        (
            candidate() | {"scoring_params": {"basic::equality": {"type": "basic", "aggregation_functions": ["mode"]}}},
            "/scoring_params/basic::equality/aggregation_functions/0",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_place(
    make_site: Callable[..., Site], body: dict[str, Any], pointer: str
) -> None:
    site = make_site()
    response = site.submit(body)
    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert site.world.jobs.list() == []


def test_an_unknown_benchmark_is_not_found(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.submit(benchmark_id="none").status_code == 404
    assert site.evaluate(rows_request(), benchmark_id="none").status_code == 404


def test_a_job_is_submitted_once_for_each_key(make_site: Callable[..., Site]) -> None:
    site = make_site()
    first = site.submit(**{"Idempotency-Key": "k"})
    again = site.submit(**{"Idempotency-Key": "k"})
    assert first.json()["job_id"] == again.json()["job_id"]
    assert len(site.world.jobs.list()) == 1
    assert site.submit(candidate(max_tokens=3), **{"Idempotency-Key": "k"}).status_code == 409
    assert site.submit(**{"Idempotency-Key": "other"}).json()["job_id"] != first.json()["job_id"]


def test_a_refused_request_leaves_its_key_unused(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.submit(candidate("nobody"), **{"Idempotency-Key": "k"}).status_code == 400
    assert site.submit(**{"Idempotency-Key": "k"}).status_code == 200


# ---------------------------------------------------------------------------------------------------- rows at once


def test_rows_are_evaluated_at_once(make_site: Callable[..., Site]) -> None:
    site = make_site()
    response = site.evaluate(rows_request(*ROWS, {"question": "q4", "answer": "wrong"}, {"answer": "x"}))
    assert response.status_code == 200
    result = response.json()
    assert [g["generated_answer"] for g in result["generations"]] == ["a0", "a1", "a2", "a3", "a4", None]
    scored = result["scores"]["basic::equality"]
    assert [row["score"] for row in scored["score_rows"]] == [1.0, 1.0, 1.0, 1.0, 0.0, None]
    assert "asks nothing" in scored["score_rows"][5]["error"]
    accuracy = scored["aggregated_results"]["accuracy"]
    assert (accuracy["accuracy"], accuracy["num_total"], accuracy["num_failed"]) == (0.8, 6, 1)


def test_everything_of_the_candidate_reaches_the_model(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda _: "x")
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    config = candidate(
        strategy={"type": "top_p", "temperature": 0.3, "top_p": 0.8}, max_tokens=9, repetition_penalty=1.1, stop=["!"]
    )
    config["seed"] = 11
    parts = [{"type": "text", "text": "Look:"}, {"type": "image", "image": {"data": png}}]
    config["eval_candidate"]["system_message"] = {"role": "system", "content": parts}
    body = rows_request({"messages": [{"role": "user", "content": "q"}], "answer": "a"}) | {"benchmark_config": config}
    assert site.evaluate(body).status_code == 200
    ((_, asked, _),) = site.world.server.requests
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    assert asked == {
        "model": "pupil",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Look:"}, image]},
            {"role": "user", "content": "q"},
        ],
        "temperature": 0.3,
        "top_p": 0.8,
        "max_tokens": 9,
        "repetition_penalty": 1.1,
        "stop": ["!"],
        "seed": 11,
    }


def test_a_judge_judges_at_temperature_zero(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda body: "Score: 7" if body["model"] == "judge" else "an answer")
    params = {
        "llm-as-judge::base": {
            "type": "llm_as_judge",
            "judge_model": "judge",
            "prompt_template": "{input_query}|{expected_answer}|{generated_answer}|{x}",
            "aggregation_functions": ["average", "categorical_count"],
        }
    }
    result = site.evaluate(rows_request(ROWS[0], functions=("llm-as-judge::base",), scoring_params=params)).json()
    asked = next(body for _, body, _ in site.world.server.requests if body["model"] == "judge")
    assert asked == {
        "model": "judge",
        "messages": [{"role": "user", "content": "q0|a0|an answer|{x}"}],
        "temperature": 0.0,
    }
    scored = result["scores"]["llm-as-judge::base"]
    assert scored["score_rows"] == [{"score": 7, "judge_feedback": "Score: 7"}]
    assert scored["aggregated_results"]["average"]["average"] == 7
    assert scored["aggregated_results"]["categorical_count"]["categorical_count"] == {"7": 1}


def test_parameters_of_one_request_are_not_the_next_ones(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda _: "B")
    function = "basic::regex_parser_multiple_choice_answer"
    own = {function: {"type": "regex_parser", "parsing_regexes": ["never"]}}
    row = {"question": "q", "answer": "B"}
    scores = [
        site.evaluate(rows_request(row, functions=(function,), **config)).json()["scores"][function]["score_rows"][0]
        for config in ({"scoring_params": own}, {})
    ]
    assert [score["score"] for score in scores] == [0.0, 1.0]


def test_weights_of_rows_weigh_their_scores(make_site: Callable[..., Site]) -> None:
    site = make_site()
    params = {"basic::equality": {"type": "basic", "aggregation_functions": ["weighted_average"]}}
    rows = [ROWS[0] | {"weight": 3}, {"question": "q1", "answer": "wrong"}]
    scored = site.evaluate(rows_request(*rows, scoring_params=params)).json()["scores"]["basic::equality"]
    assert scored["score_rows"] == [{"score": 1.0, "weight": 3.0}, {"score": 0.0}]
    assert scored["aggregated_results"]["weighted_average"]["weighted_average"] == 0.75


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"input_rows": []}, "/input_rows"),
        ({"input_rows": [ROWS[0]] * 1001}, "/input_rows"),
        ({"scoring_functions": []}, "/scoring_functions"),
        ({"scoring_functions": ["no::such"]}, "/scoring_functions/0"),
        ({"benchmark_config": candidate("nobody")}, "/benchmark_config/eval_candidate/model"),
    ],
)
def test_rows_that_cannot_be_evaluated(make_site: Callable[..., Site], changes: dict[str, Any], pointer: str) -> None:
    site = make_site()
    response = site.evaluate(rows_request() | changes)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, pointer)
    assert site.world.server.requests == []


def test_too_many_rows_are_told_where_to_go(make_site: Callable[..., Site]) -> None:
    response = make_site().evaluate(rows_request() | {"input_rows": [ROWS[0]] * 1001})
    assert "/jobs" in response.json()["detail"]


def test_num_examples_counts_for_rows_too(make_site: Callable[..., Site]) -> None:
    assert len(make_site().evaluate(rows_request(num_examples=2)).json()["generations"]) == 2


def test_a_backend_that_is_down_is_a_bad_gateway(make_site: Callable[..., Site]) -> None:
    response = make_site(lambda _: {"choices": []}).evaluate(rows_request(ROWS[0]))
    assert (response.status_code, response.json()["title"]) == (502, "Bad Gateway")


def test_what_a_model_refuses_in_every_row_is_the_request_s_own_mistake(make_site: Callable[..., Site]) -> None:
    """The server's words come through; they are about rows, model and sampling together, so about the whole body."""
    words = {"error": {"message": "no top_k here"}}
    response = make_site(lambda _: web.json_response(words, status=400)).evaluate(rows_request())
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["pointer"], "no top_k here" in error["message"]) == ("", True)


def test_rows_are_evaluated_once_for_each_key(make_site: Callable[..., Site]) -> None:
    site = make_site()
    first = site.evaluate(rows_request(), **{"Idempotency-Key": "k"})
    again = site.evaluate(rows_request(), **{"Idempotency-Key": "k"})
    assert first.json() == again.json()
    assert len(site.world.server.requests) == 4
    assert site.evaluate(rows_request(ROWS[0]), **{"Idempotency-Key": "k"}).status_code == 409


def test_a_repetition_while_the_first_is_answered_is_refused(make_site: Callable[..., Site]) -> None:
    site: Site
    statuses: list[int] = []

    def reply(_body: dict[str, Any]) -> str:
        # Another request with the same key, while the model of the first one is thinking.
        with TestClient(site.app) as other:
            headers = {"Idempotency-Key": "k"}
            statuses.append(other.post(f"{BENCHMARKS}/bench/evaluations", json=body, headers=headers).status_code)
        return "x"

    site = make_site(reply)
    body = rows_request(ROWS[0])
    assert site.evaluate(body, **{"Idempotency-Key": "k"}).status_code == 200
    assert statuses == [409]


def test_what_a_client_that_left_had_asked_for_is_stopped(make_site: Callable[..., Site]) -> None:
    """It hangs up when the first of forty rows is being answered: four calls are in flight, and the rest is not asked."""
    site = make_site(delay_seconds=0.3, max_concurrency=4)
    body = wire.to_json(rows_request(*(ROWS * 10))).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{BENCHMARKS}/bench/evaluations",
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }
    to_come: list[dict[str, Any]] = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if to_come:
            return to_come.pop()
        while not site.world.server.requests:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_message: dict[str, Any]) -> None:
        """Nobody reads it."""

    asyncio.run(site.app(scope, receive, send))
    time.sleep(0.5)
    assert 1 <= len(site.world.server.requests) <= 4


# ---------------------------------------------------------------------------------------------------- scoring


def test_scoring_functions_are_listed_with_their_parameters(make_site: Callable[..., Site]) -> None:
    client = make_site().client
    listed = {function["identifier"]: function for function in client.get("/v1/scoring-functions").json()["data"]}
    assert set(listed) >= {"basic::equality", "llm-as-judge::base"}
    choice = client.get("/v1/scoring-functions/basic::regex_parser_multiple_choice_answer").json()
    assert choice == listed[choice["identifier"]]
    assert choice["params"]["aggregation_functions"] == ["accuracy"]
    assert choice["return_type"] == {"type": "number"}
    assert client.get("/v1/scoring-functions/no::such").status_code == 404


def test_the_default_regexes_may_be_sent_back(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda _: "Answer: **B**")
    function = "basic::regex_parser_multiple_choice_answer"
    params = site.client.get(f"/v1/scoring-functions/{function}").json()["params"]
    row = {"question": "q", "answer": "B"}
    response = site.evaluate(rows_request(row, functions=(function,), scoring_params={function: params}))
    assert response.json()["scores"][function]["score_rows"][0]["score"] == 1.0


def test_a_registered_judge_is_run_by_its_id(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda body: "[[4]]" if body["model"] == "judge" else "x")
    body = {
        "scoring_fn_id": "my/judge",
        "description": "Grades.",
        "return_type": {"type": "number"},
        "params": {
            "type": "llm_as_judge",
            "judge_model": "judge",
            "prompt_template": "{generated_answer}",
            "judge_score_regexes": [r"\[\[(\d)\]\]"],
            "aggregation_functions": ["median"],
        },
    }
    for _ in range(2):
        registered = site.client.post("/v1/scoring-functions", json=body)
        assert registered.status_code == 200
    assert site.client.post("/v1/scoring-functions", json=body | {"description": "x"}).status_code == 409
    assert registered.json() == site.client.get("/v1/scoring-functions/my/judge").json()
    scored = site.evaluate(rows_request(functions=("my/judge",))).json()["scores"]["my/judge"]
    assert scored["aggregated_results"]["median"]["median"] == 4
    assert site.client.delete("/v1/scoring-functions/my/judge").status_code == 200
    assert site.client.get("/v1/scoring-functions/my/judge").status_code == 404


def test_answers_that_are_there_are_scored(make_site: Callable[..., Site]) -> None:
    site = make_site()
    rows = [
        {"generated_answer": "Paris", "expected_answer": "Paris"},
        {"generated_answer": "It is Paris", "answer": "Paris"},
        {"expected_answer": "Paris"},
        {"generated_answer": "Paris"},
    ]
    body = {"input_rows": rows, "scoring_functions": {"basic::equality": None, "basic::subset_of": {"type": "basic"}}}
    results = site.client.post("/v1/scoring/score", json=body).json()["results"]
    scores = {name: [row["score"] for row in result["score_rows"]] for name, result in results.items()}
    assert scores == {"basic::equality": [1.0, 0.0, None, None], "basic::subset_of": [1.0, 1.0, None, None]}
    errors = [row.get("error", "") for row in results["basic::equality"]["score_rows"]]
    assert "`generated_answer`" in errors[2]
    assert "`answer`" in errors[3]
    assert results["basic::subset_of"]["aggregated_results"]["accuracy"]["num_failed"] == 2


def test_a_dataset_of_answers_is_scored(make_site: Callable[..., Site]) -> None:
    site = make_site()
    rows = [{"question": "q", "answer": "a", "generated_answer": text} for text in "ab"]
    site.world.add_dataset(rows, "answered")
    body = {"dataset_id": "answered", "scoring_functions": {"basic::equality": None}}
    results = site.client.post("/v1/scoring/score-batch", json=body).json()["results"]
    assert [row["score"] for row in results["basic::equality"]["score_rows"]] == [1.0, 0.0]
    for change, pointer in (
        ({"dataset_id": "none"}, "/dataset_id"),
        ({"save_results_dataset": True}, "/save_results_dataset"),
    ):
        response = site.client.post("/v1/scoring/score-batch", json=body | change)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, pointer)


def test_a_function_that_cannot_score_is_refused(make_site: Callable[..., Site]) -> None:
    client = make_site().client
    for functions, pointer in (
        ({}, "/scoring_functions"),
        ({"no::such": None}, "/scoring_functions/no::such"),
        ({"llm-as-judge::base": None}, "/scoring_functions"),
        ({"basic::equality": {"type": "regex_parser"}}, "/scoring_functions/basic::equality/type"),
    ):
        body = {"input_rows": [{"generated_answer": "x"}], "scoring_functions": functions}
        response = client.post("/v1/scoring/score", json=body)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, pointer)


def test_evaluate_rows_draws_several_samples(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda body: "a" if body["seed"] == 4 else "b")
    strategy = {"type": "top_p", "temperature": 1.0, "top_p": 1.0}
    config = candidate(strategy=strategy) | {"num_samples": 2, "pass_at_k": [2], "seed": 4}
    body = rows_request({"question": "q", "answer": "a"}) | {"benchmark_config": config}
    found = site.evaluate(body).json()
    (row,) = found["generations"]
    assert [(sample["generated_answer"], sample["seed"]) for sample in row["samples"]] == [("a", 4), ("b", 5)]
    (scores,) = found["scores"].values()
    assert scores["score_rows"][0]["score"] == 0.5
    assert scores["aggregated_results"]["pass@2"]["pass@2"] == 1.0


def test_samples_count_against_the_bound_of_rows(make_site: Callable[..., Site]) -> None:
    site = make_site(lambda _: "a")
    strategy = {"type": "top_p", "temperature": 1.0, "top_p": 1.0}
    body = rows_request(*[{"question": "q", "answer": "a"}] * 2) | {
        "benchmark_config": candidate(strategy=strategy) | {"num_samples": 1000}
    }
    answer = site.evaluate(body)
    assert answer.status_code == 400
    assert "2000 rows" in answer.json()["detail"]


def test_choices_are_compared_by_a_server_that_tells_log_probabilities(make_site: Callable[..., Site]) -> None:
    row = {"question": "q", "choices": ["a", "b"], "target_delimiter": "", "answer": "b"}
    request = rows_request(row, functions=("loglikelihood::acc",))

    def echoing(body: dict[str, Any]) -> dict[str, Any]:
        log_probs = {"tokens": [], "token_logprobs": [None, -2.0, -1.0]}
        told = [
            log_probs | {"token_logprobs": log_probs["token_logprobs"][: i + 1]} for i in range(len(body["prompt"]))
        ]
        texts = enumerate(zip(body["prompt"], told, strict=True))
        return {"choices": [{"index": i, "text": text, "logprobs": found} for i, (text, found) in texts]}

    found = make_site(echoing).evaluate(request).json()
    assert found["generations"][0]["generated_answer"] == "a"
    assert [c["log_likelihood"] for c in found["generations"][0]["choices"]] == [-2.0, -3.0]
    assert found["scores"]["loglikelihood::acc"]["score_rows"] == [{"score": 0.0, "chosen": 0}]


def test_a_server_that_only_chats_compares_no_choices(make_site: Callable[..., Site]) -> None:
    row = {"question": "q", "choices": ["a", "b"], "answer": "b"}
    answer = make_site(lambda _: "It is b.").evaluate(rows_request(row, functions=("loglikelihood::acc",)))
    assert answer.status_code == 400
    assert "The provider lab" in answer.json()["detail"]
    assert "`echo` and `logprobs`" in answer.json()["detail"]


def test_no_likelihoods_are_told_of_answers_that_are_there(make_site: Callable[..., Site]) -> None:
    row = {"question": "q", "choices": ["a", "b"], "answer": "b", "generated_answer": "b"}
    body = {"input_rows": [row], "scoring_functions": {"loglikelihood::acc": None}}
    answer = make_site().client.post("/v1/scoring/score", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/scoring_functions/loglikelihood::acc"

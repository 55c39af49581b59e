"""An evaluation as a job: stored as it comes, resumed where it was, failed with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock.errors import InvalidRequestError, LostLeaseError
from paddock.evaluation import answer, result_store
from paddock.evaluation import job as eval_job
from paddock.evaluation.result_store import RowResult
from paddock.inference import remote
from paddock.inference.engine import Model
from paddock.jobs.progress import Progress
from paddock.jobs.states import JobStatus

MakeWorld = Callable[..., World]

JUDGED = {
    "llm-as-judge::base": {"type": "llm_as_judge", "judge_model": "judge", "prompt_template": "{generated_answer}?"}
}


def capitals(num_rows: int) -> list[dict[str, Any]]:
    return [{"question": f"q{i}", "answer": f"a{i}"} for i in range(num_rows)]


def right(body: dict[str, Any]) -> str:
    return last_user_text(body).replace("q", "a")


def result(world: World, job_id: str) -> dict[str, Any]:
    return json.loads("".join(answer.stream(world.jobs.get(job_id), world.evaluation.results)))


def test_each_row_has_its_generation_and_score_in_its_place(make_world: MakeWorld) -> None:
    world = make_world(lambda body: "a1" if last_user_text(body) == "q1" else "no", max_concurrency=16)
    world.add_dataset(capitals(40))
    world.add_benchmark("basic::equality")
    job = world.run(world.submit())

    assert job.status is JobStatus.COMPLETED
    assert job.progress == {"done": 40, "total": 40, "unit": "rows"}
    found = result(world, job.job_id)
    assert [g["generated_answer"] for g in found["generations"]] == ["a1" if i == 1 else "no" for i in range(40)]
    assert [s["score"] for s in found["scores"]["basic::equality"]["score_rows"]] == [float(i == 1) for i in range(40)]
    accuracy = found["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_total"], accuracy["num_failed"]) == (1, 40, 0)
    generation = found["generations"][0]
    assert generation["latency_seconds"] > 0
    assert (generation["finish_reason"], generation["num_prompt_tokens"], generation["num_generated_tokens"]) == (
        "stop",
        7,
        3,
    )
    assert 1 < world.server.max_in_flight <= 16


def test_num_examples_are_the_first_rows(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(20))
    world.add_benchmark()
    job = world.run(world.submit({**candidate(), "num_examples": 3}))
    assert sorted(last_user_text(body) for _, body, _ in world.server.requests) == ["q0", "q1", "q2"]
    assert job.progress_total == 3


def test_a_job_reads_the_rows_that_were_there_at_its_submission(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(2))
    world.add_benchmark()
    job_id = world.submit()
    world.datasets.append("exam", ['{"question":"q9","answer":"a9"}'])
    world.run(job_id)
    assert len(result(world, job_id)["generations"]) == 2


def test_a_stopped_job_goes_on_and_asks_for_each_row_once(make_world: MakeWorld) -> None:
    progress: Progress | None = None
    asked: Counter[str] = Counter()

    def reply(body: dict[str, Any]) -> str:
        asked[f"{body['model']} {body['messages'][-1]['content']}"] += 1
        if asked.total() == 25 and progress is not None:
            progress.ask_to_stop()
        return "Score: 1" if body["model"] == "judge" else right(body)

    world = make_world(reply)
    world.add_dataset(capitals(30))
    world.add_benchmark("basic::equality", "llm-as-judge::base")
    job_id = world.submit({**candidate(), "scoring_params": JUDGED})

    def hold(first: Progress) -> None:
        nonlocal progress
        progress = first

    stopped = world.run(job_id, meanwhile=hold)
    assert stopped.status is JobStatus.SCHEDULED
    assert 0 < stopped.progress_done < 30
    assert 25 <= asked.total() < 60
    progress = None

    done = world.run(job_id)
    assert done.status is JobStatus.COMPLETED
    assert done.attempt == 2
    assert set(asked.values()) == {1}
    assert len(asked) == 60
    found = result(world, job_id)
    assert [g["generated_answer"] for g in found["generations"]] == [f"a{i}" for i in range(30)]
    assert found["scores"]["llm-as-judge::base"]["aggregated_results"]["average"]["num_scored"] == 30


def test_a_stored_generation_is_scored_and_not_asked_for_again(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(5))
    world.add_benchmark("basic::equality", "basic::subset_of")
    job_id = world.submit()

    def store_some(progress: Progress) -> None:
        known = [
            RowResult(0, {"generated_answer": "a0"}, {"basic::equality": {"score": 0.5}}),
            RowResult(3, {"generated_answer": "from before"}),
        ]
        with progress.write() as connection:
            result_store.add(connection, job_id, known)

    job = world.run(job_id, meanwhile=store_some)
    assert sorted(last_user_text(body) for _, body, _ in world.server.requests) == ["q1", "q2", "q4"]
    found = result(world, job_id)
    assert [g["generated_answer"] for g in found["generations"]] == ["a0", "a1", "a2", "from before", "a4"]
    assert [s["score"] for s in found["scores"]["basic::equality"]["score_rows"]] == [0.5, 1, 1, 0, 1]
    assert [s["score"] for s in found["scores"]["basic::subset_of"]["score_rows"]] == [1, 1, 1, 0, 1]
    assert job.progress_done == 5


def test_a_cancelled_job_stops_and_shows_what_there_is(make_world: MakeWorld) -> None:
    num_asked = 0

    def reply(body: dict[str, Any]) -> str:
        nonlocal num_asked
        num_asked += 1
        if num_asked == 40:
            world.jobs.cancel(job_id)
        return right(body)

    world = make_world(reply, delay_seconds=0.01)
    world.add_dataset(capitals(400))
    world.add_benchmark()
    job_id = world.submit()
    with pytest.raises(LostLeaseError):
        world.run(job_id)

    assert num_asked < 200
    found = result(world, job_id)
    rows = found["scores"]["basic::equality"]["score_rows"]
    assert 0 < len(rows) == len(found["generations"]) <= 40
    aggregated = found["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert aggregated["num_total"] == len(rows)
    assert aggregated["num_scored"] == sum(row["score"] is not None for row in rows) > 0


def test_rows_between_that_were_not_reached_say_so(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(5))
    world.add_benchmark()
    job_id = world.submit()
    job = world.jobs.claim(worker_id="worker", lease_seconds=60)
    assert job is not None
    known = [RowResult(2, {"generated_answer": "a2"}, {"basic::equality": {"score": 1.0}})]
    with Progress(job, world.jobs).write() as connection:
        result_store.add(connection, job_id, known)
    world.jobs.cancel(job_id)

    found = result(world, job_id)
    not_reached = "This row was not evaluated: the job ended before."
    assert found["generations"][:2] == [{"generated_answer": None, "error": not_reached}] * 2
    assert found["generations"][2:] == [{"generated_answer": "a2"}]
    scores = found["scores"]["basic::equality"]
    assert scores["score_rows"] == [{"score": None, "error": not_reached}] * 2 + [{"score": 1.0}]
    assert scores["aggregated_results"]["accuracy"] | {"ci95": None} == {
        "accuracy": 1.0,
        "num_correct": 1,
        "num_total": 3,
        "num_scored": 1,
        "num_failed": 2,
        "stderr": None,
        "ci95": None,
    }


def test_a_job_cancelled_before_it_began_has_an_empty_result(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(2))
    world.add_benchmark()
    job_id = world.submit()
    world.jobs.cancel(job_id)
    found = result(world, job_id)
    assert found["generations"] == []
    assert found["scores"]["basic::equality"]["aggregated_results"]["accuracy"]["accuracy"] is None


def refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the calls to a server that is away."""
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_a_backend_that_answers_nothing_fails_the_job_with_its_reason(make_world: MakeWorld) -> None:
    world = make_world(lambda _: refusal(500, "no"))
    world.add_dataset(capitals(100))
    world.add_benchmark()
    job_id = world.submit()
    put_off = world.run(job_id)
    assert (put_off.status, put_off.num_retries) == (JobStatus.SCHEDULED, 1)
    assert "HTTP 500" in (put_off.put_off or "")
    assert len(world.server.requests) < 4 * (8 + 4)
    assert result(world, job_id)["generations"] == []

    job = world.run_to_end(job_id)
    assert (job.status, job.retryable, job.put_off) == (JobStatus.FAILED, True, None)
    assert "HTTP 500" in (job.error or "")
    assert job.attempt == world.settings.max_job_retries + 1
    assert result(world, job_id)["generations"] == []


@pytest.mark.parametrize("num_rows", [3, 100])
@pytest.mark.parametrize(
    ("status", "setting"), [(401, "api_key"), (403, "api_key"), (404, "provider_model_id"), (301, "base_url")]
)
def test_wrong_settings_fail_the_job_at_once_and_no_row(
    make_world: MakeWorld, status: int, setting: str, num_rows: int
) -> None:
    world = make_world(lambda _: refusal(status, f"no model, says request {len(world.server.requests)}"))
    world.add_dataset(capitals(num_rows))
    world.add_benchmark()
    job = world.run(world.submit())
    assert (job.status, job.retryable, job.attempt) == (JobStatus.FAILED, False, 1)
    assert f"The provider lab answered HTTP {status}" in (job.error or "")
    assert f"`{setting}`" in (job.error or "")
    assert len(world.server.requests) < 8 + 4
    assert result(world, job.job_id)["generations"] == []


def test_wrong_settings_of_a_judge_fail_the_job_at_once(make_world: MakeWorld) -> None:
    world = make_world(lambda body: refusal(401, "no") if body["model"] == "judge" else right(body))
    world.add_dataset(capitals(60))
    world.add_benchmark("llm-as-judge::base")
    job = world.run(world.submit({**candidate(), "scoring_params": JUDGED}))
    assert (job.status, job.retryable, job.attempt) == (JobStatus.FAILED, False, 1)
    assert "`api_key`" in (job.error or "")
    assert result(world, job.job_id)["scores"]["llm-as-judge::base"]["score_rows"][0]["score"] is None
    assert len(world.server.requests) < 60


def test_a_model_that_refuses_every_row_in_the_same_words_fails_the_job(make_world: MakeWorld) -> None:
    world = make_world(lambda _: refusal(422, "no such template"))
    world.add_dataset(capitals(3))
    world.add_benchmark()
    job = world.run(world.submit())
    assert (job.status, "no such template" in (job.error or "")) == (JobStatus.FAILED, True)


def test_refusals_of_single_rows_are_those_rows_failures(make_world: MakeWorld) -> None:
    def reply(body: dict[str, Any]) -> Any:
        text = last_user_text(body)
        return refusal(400, f"{text} is too long") if text in ("q0", "q1", "q7") else right(body)

    world = make_world(reply, max_concurrency=1)
    world.add_dataset(capitals(10))
    world.add_benchmark()
    job = world.run(world.submit())
    assert job.status is JobStatus.COMPLETED
    found = result(world, job.job_id)
    failed = [i for i, g in enumerate(found["generations"]) if "error" in g]
    assert failed == [0, 1, 7]
    assert "q7 is too long" in found["generations"][7]["error"]
    row = found["scores"]["basic::equality"]["score_rows"][7]
    assert row["score"] is None
    assert "q7 is too long" in row["error"]
    accuracy = found["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["accuracy"], accuracy["num_scored"], accuracy["num_failed"]) == (1.0, 7, 3)


AWAY_STATUSES = (502, 503, 504)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("max_concurrency", [1, 16])
def test_a_backend_that_dies_midway_puts_the_job_off_and_fails_no_row(
    make_world: MakeWorld, max_concurrency: int
) -> None:
    answered: Counter[str] = Counter()
    num_answers = 30

    def reply(body: dict[str, Any]) -> Any:
        if answered.total() == num_answers:
            return refusal(AWAY_STATUSES[len(world.server.requests) % 3], "nobody there")
        answered[last_user_text(body)] += 1
        return right(body)

    world = make_world(reply, max_concurrency=max_concurrency)
    world.add_dataset(capitals(100))
    world.add_benchmark()
    job_id = world.submit()
    job = world.run(job_id)
    assert (job.status, job.num_retries, job.progress_done) == (JobStatus.SCHEDULED, 1, 30)
    assert "HTTP 50" in (job.put_off or "")
    assert [event["event"] for event in world.jobs.events(job_id)] == ["submitted", "started", "put off"]
    # Eight rows without an answer, and what was in flight beside them, four calls each.
    assert len(world.server.requests) <= 30 + 4 * (8 + max_concurrency)
    rows = [row for row in result(world, job_id)["generations"] if row["generated_answer"]]
    assert len(rows) == 30

    still_away = world.run(job_id)
    assert (still_away.status, still_away.num_retries, still_away.progress_done) == (JobStatus.SCHEDULED, 2, 30)
    num_answers = 100
    done = world.run(job_id)
    assert done.status is JobStatus.COMPLETED
    assert set(answered.values()) == {1}
    found = result(world, job_id)
    assert [row["generated_answer"] for row in found["generations"]] == [f"a{i}" for i in range(100)]
    accuracy = found["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_failed"]) == (100, 0)


@pytest.mark.usefixtures("no_pauses")
def test_a_backend_that_stays_away_fails_the_job_and_keeps_what_there_is(make_world: MakeWorld) -> None:
    world = make_world(
        lambda body: right(body) if last_user_text(body) in ("q0", "q1") else refusal(503, "no"), max_concurrency=1
    )
    world.add_dataset(capitals(5))
    world.add_benchmark()
    job = world.run_to_end(world.submit())
    assert (job.status, job.retryable) == (JobStatus.FAILED, True)
    assert "HTTP 503" in (job.error or "")
    # The first attempt got something done, so that the count begins with the second.
    assert job.attempt == world.settings.max_job_retries + 1
    assert job.progress == {"done": 2, "total": 5, "unit": "rows"}
    assert [row["generated_answer"] for row in result(world, job.job_id)["generations"]] == ["a0", "a1"]


def test_an_outage_after_an_outage_is_counted_anew(make_world: MakeWorld) -> None:
    """A job that gets on between is put off as often as its backend goes away."""
    answered_in: set[int] = set()

    def reply(body: dict[str, Any]) -> Any:
        attempt = world.jobs.get(job_id).attempt
        if attempt in answered_in:
            return refusal(403, "no")
        answered_in.add(attempt)
        return right(body)

    world = make_world(reply, max_concurrency=1)
    world.add_dataset(capitals(10))
    world.add_benchmark()
    job_id = world.submit()
    job = world.run_to_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 10)
    assert world.settings.max_job_retries < 9
    accuracy = result(world, job.job_id)["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_failed"]) == (10, 0)


@pytest.mark.usefixtures("no_pauses")
def test_a_row_that_breaks_the_backend_each_time_fails_in_the_end(make_world: MakeWorld) -> None:
    """HTTP 500 from a server that answers the others: asked for again with each attempt, then counted as failed."""
    asked: Counter[str] = Counter()

    def reply(body: dict[str, Any]) -> Any:
        asked[last_user_text(body)] += 1
        return refusal(500, "no") if last_user_text(body) in ("q2", "q7") else right(body)

    world = make_world(reply)
    world.add_dataset(capitals(20))
    world.add_benchmark()
    job_id = world.submit()
    first = world.run(job_id)
    assert (first.status, first.progress_done) == (JobStatus.SCHEDULED, 18)
    assert "HTTP 500" in (first.put_off or "")
    job = world.run_to_end(job_id)
    assert job.status is JobStatus.COMPLETED
    assert {text for text, count in asked.items() if count > 1} == {"q2", "q7"}
    found = result(world, job_id)["generations"]
    assert [i for i, row in enumerate(found) if "error" in row] == [2, 7]
    assert "HTTP 500" in found[7]["error"]


@pytest.mark.usefixtures("no_pauses")
def test_a_judge_that_is_away_leaves_the_answers_to_be_judged_later(make_world: MakeWorld) -> None:
    asked: Counter[str] = Counter()
    is_away = True

    def reply(body: dict[str, Any]) -> Any:
        if body["model"] != "judge":
            asked[last_user_text(body)] += 1
            return right(body)
        return refusal(503, "no") if is_away else "Score: 1"

    world = make_world(reply)
    world.add_dataset(capitals(60))
    world.add_benchmark("basic::equality", "llm-as-judge::base")
    job_id = world.submit({**candidate(), "scoring_params": JUDGED})
    job = world.run(job_id)
    assert (job.status, job.progress_done) == (JobStatus.SCHEDULED, 0)
    before = [row for row in result(world, job_id)["generations"] if row["generated_answer"]]
    assert 0 < len(before) < 60
    is_away = False
    done = world.run(job_id)
    assert done.status is JobStatus.COMPLETED
    # An answer that was in flight when the judge was given up on is asked for again; one that was stored is not.
    assert len(asked) == 60
    assert asked.total() <= 60 + 4
    scores = result(world, job_id)["scores"]
    for function_id in ("basic::equality", "llm-as-judge::base"):
        assert [row.get("error") for row in scores[function_id]["score_rows"]] == [None] * 60


def test_unreadable_rows_are_failed_rows_and_nobody_is_asked(make_world: MakeWorld) -> None:
    world = make_world(right)
    rows = [*capitals(2), {"question": {"not": "a text"}, "answer": "a"}, {"messages": "{no json", "answer": "a"}]
    world.add_dataset(rows)
    world.add_benchmark()
    job = world.run(world.submit())
    assert job.status is JobStatus.COMPLETED
    assert len(world.server.requests) == 2
    errors = [g.get("error") for g in result(world, job.job_id)["generations"]]
    assert errors == [None, None, "`question` must be a text.", "`messages` is a text that is not JSON."]


def test_a_plan_is_kept_whatever_is_registered_meanwhile(make_world: MakeWorld) -> None:
    world = make_world(right)
    world.add_dataset(capitals(2))
    world.add_benchmark()
    job_id = world.submit()
    world.inference.models.register(Model("pupil", "lab", "another"), replace=True)
    world.run(job_id)
    assert {body["model"] for _, body, _ in world.server.requests} == {"pupil"}


def test_rows_stream_through_bounded_memory(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_job, "_CHUNK_ROWS", 7)
    world = make_world(right)
    world.add_dataset(capitals(50))
    world.add_benchmark()
    job = world.run(world.submit())
    accuracy = result(world, job.job_id)["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert accuracy["num_correct"] == 50


def test_control_characters_and_absent_counts_of_a_server_are_kept(make_world: MakeWorld) -> None:
    world = make_world(
        lambda _: web.Response(
            text='{"choices": [{"message": {"content": "a\\u0000b"}, "finish_reason": "length"}]}',
            content_type="application/json",
        )
    )
    world.add_dataset(capitals(1))
    world.add_benchmark()
    job = world.run(world.submit())
    generation = result(world, job.job_id)["generations"][0]
    assert (generation["generated_answer"], generation["finish_reason"]) == ("a\x00b", "length")
    assert generation["num_generated_tokens"] is None


def test_a_functions_own_weight_is_multiplied_by_the_rows(make_world: MakeWorld) -> None:
    world = make_world(lambda body: "no comma" if last_user_text(body) == "q0" else "a, b")
    both = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    one = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [None], "weight": 3}
    world.add_dataset([{"prompt": "q0", **both}, {"prompt": "q1", **one}])
    world.add_benchmark("basic::ifeval")
    scores = result(world, world.run(world.submit()).job_id)["scores"]["basic::ifeval"]
    assert [(row["score"], row["weight"]) for row in scores["score_rows"]] == [(0.5, 2.0), (0.0, 3.0)]
    assert scores["aggregated_results"]["weighted_average"]["weighted_average"] == pytest.approx(1 / 5)


def likely(body: dict[str, Any]) -> dict[str, Any]:
    """What vLLM answers to prompts with `echo`: a character is a token, of a log-probability of minus its position in the
    alphabet."""
    choices = []
    for index, prompt in enumerate(body["prompt"]):
        log_probs = [None, *(-(ord(letter) - 96) / 10 for letter in prompt[1:])]
        told = {"tokens": list(prompt), "token_logprobs": log_probs}
        choices.append({"index": index, "text": prompt, "finish_reason": "length", "logprobs": told})
    return {"choices": choices}


def choosing(num_rows: int) -> list[dict[str, Any]]:
    return [{"question": f"Q{i}:", "choices": ["zz", "b", "c" * (i + 2)], "answer": 1} for i in range(num_rows)]


def test_a_stopped_multiple_choice_job_goes_on_and_compares_each_row_once(make_world: MakeWorld) -> None:
    progress: Progress | None = None
    asked: Counter[str] = Counter()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        asked[body["prompt"][0]] += 1
        if asked.total() == 12 and progress is not None:
            progress.ask_to_stop()
        return likely(body)

    world = make_world(reply)
    world.add_dataset(choosing(30))
    world.add_benchmark("loglikelihood::acc", "loglikelihood::acc_norm")
    job_id = world.submit()

    def hold(first: Progress) -> None:
        nonlocal progress
        progress = first

    stopped = world.run(job_id, meanwhile=hold)
    assert stopped.status is JobStatus.SCHEDULED
    assert 0 < stopped.progress_done < 30
    progress = None

    assert world.run(job_id).status is JobStatus.COMPLETED
    assert asked == Counter({f"Q{i}:": 1 for i in range(30)})
    found = result(world, job_id)
    space = (96 - ord(" ")) / 10
    told = found["generations"][0]
    assert told["generated_answer"] == "b"
    assert [choice["num_tokens"] for choice in told["choices"]] == [3, 2, 3]
    assert [choice["log_likelihood"] for choice in told["choices"]] == pytest.approx(
        [space - x for x in (5.2, 0.2, 0.6)]
    )
    for name in ("loglikelihood::acc", "loglikelihood::acc_norm"):
        accuracy = found["scores"][name]["aggregated_results"]["accuracy"]
        assert (accuracy["num_scored"], accuracy["num_failed"]) == (30, 0)
        assert accuracy["ci95"] is not None
    assert found["scores"]["loglikelihood::acc"]["aggregated_results"]["accuracy"]["accuracy"] == 1.0


def test_a_server_that_only_chats_fails_a_multiple_choice_job_by_name(make_world: MakeWorld) -> None:
    world = make_world(lambda _: web.json_response({"error": {"message": "no such route"}}, status=404))
    world.add_dataset(choosing(20))
    world.add_benchmark("loglikelihood::acc")
    job = world.run(world.submit())
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "The provider lab answered HTTP 404" in job.error
    assert "`echo` and `logprobs`" in job.error
    assert len(world.server.requests) <= 12


def test_a_multiple_choice_job_needs_choices(make_world: MakeWorld) -> None:
    world = make_world(likely)
    world.add_dataset([*choosing(2), {"question": "q", "answer": "a"}])
    world.add_benchmark("loglikelihood::acc")
    with pytest.raises(InvalidRequestError, match="Row 2 .* has no `choices`"):
        world.submit()


def test_a_benchmark_may_have_a_text_continued(make_world: MakeWorld) -> None:
    world = make_world(lambda body: body["prompt"][-2:])
    world.add_dataset(
        [{"question": "1 2 3", "answer": " 3"}, {"messages": [{"role": "user", "content": "x"}], "answer": "x"}]
    )
    world.add_benchmark(metadata={"asking": {"manner": "completion", "max_tokens": 7, "stop": ["\n"]}})
    job = world.run(world.submit())
    ((path, body, _),) = world.server.requests
    assert path == "/v1/completions"
    assert (body["prompt"], body["max_tokens"], body["stop"]) == ("1 2 3", 7, ["\n"])
    found = result(world, job.job_id)
    assert [s["score"] for s in found["scores"]["basic::equality"]["score_rows"]] == [1.0, None]
    assert "continue" in found["generations"][1]["error"]

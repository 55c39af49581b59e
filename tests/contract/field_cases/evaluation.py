"""What is evaluated: whose answers, to which rows, by which functions; and the jobs that do it."""

from __future__ import annotations

from contract.field_cases.lab import Lab
from contract.field_cases.operations import (
    EVALUATE_ROWS,
    ROWS,
    add_benchmark,
    config,
    config_field,
    evaluate,
    refusal,
)
from contract.field_cases.registry import field

BENCHMARKS = "/v1alpha/eval/benchmarks"


@config_field("eval_candidate.type string")
def candidate_type(lab: Lab, operation: str) -> None:
    (body,) = evaluate(lab, operation, config(), rows=ROWS[:1]).asked
    assert body["model"] == "pupil"
    wrong = config()
    wrong["eval_candidate"]["type"] = "agent"
    pointer, message = refusal(lab, operation, wrong)
    assert pointer == "/eval_candidate/type"
    assert "model" in message


@config_field("eval_candidate.model string")
def candidate_model(lab: Lab, operation: str) -> None:
    for model in ("pupil", "other-pupil"):
        assert {body["model"] for body in evaluate(lab, operation, config(model)).asked} == {model}


@config_field("num_examples integer")
def num_examples(lab: Lab, operation: str) -> None:
    for count in (1, 2):
        found = evaluate(lab, operation, config(num_examples=count), rows=[*ROWS, {"question": "?", "answer": "x"}])
        questions = sorted(body["messages"][-1]["content"] for body in found.asked)
        assert questions == sorted(row["question"] for row in ROWS[:count])
        assert len(found.generations) == count
        assert len(found.scores["basic::equality"]["score_rows"]) == count


@field("evaluate_rows input_rows[] object")
def input_rows(lab: Lab) -> None:
    for row, score in zip(ROWS, (1.0, 0.0), strict=True):
        found = evaluate(lab, EVALUATE_ROWS, config(), rows=[row])
        assert [body["messages"] for body in found.asked] == [[{"role": "user", "content": row["question"]}]]
        assert found.scores["basic::equality"]["score_rows"] == [{"score": score}]


@field("evaluate_rows scoring_functions[] string")
def scoring_functions(lab: Lab) -> None:
    lab.answer = lambda _body: "it is an answer"
    for function_id, scores in (("basic::equality", [0.0, 0.0]), ("basic::subset_of", [1.0, 0.0])):
        found = evaluate(lab, EVALUATE_ROWS, config(), functions=[function_id])
        assert {name: [row["score"] for row in s["score_rows"]] for name, s in found.scores.items()} == {
            function_id: scores
        }


@field("run_eval benchmark_id (path) string")
def run_eval_benchmark(lab: Lab) -> None:
    """The benchmark's rows are asked, and its functions score them."""
    for rows, function_id in ((ROWS[:1], "basic::equality"), (ROWS[1:], "basic::subset_of")):
        path = f"{BENCHMARKS}/{add_benchmark(lab, rows, [function_id])}/jobs"
        num_asked_before = len(lab.backend.requests)
        job = lab.run_job(lab.call("POST", path, config())["job_id"])
        asked = lab.asked(num_asked_before)
        assert [body["messages"][-1]["content"] for body in asked] == [row["question"] for row in rows]
        assert list(lab.call("GET", f"{path}/{job.job_id}/result")["scores"]) == [function_id]


@field("evaluate_rows benchmark_id (path) string")
def evaluate_rows_benchmark(lab: Lab) -> None:
    """Rows and functions are the body's: the benchmark must be there, and a repeated request is one on the same."""
    body = {"input_rows": list(ROWS[:1]), "scoring_functions": ["basic::equality"], "benchmark_config": config()}
    first, second = add_benchmark(lab), add_benchmark(lab)
    num_asked = []
    for benchmark in (first, first, second):
        before = len(lab.backend.requests)
        answer = lab.http.post(
            f"{BENCHMARKS}/{benchmark}/evaluations", json=body, headers={"Idempotency-Key": first}
        ).json()
        assert answer["scores"]["basic::equality"]["score_rows"] == [{"score": 1.0}]
        num_asked.append(len(lab.asked(before)))
    assert num_asked == [1, 0, 1]
    assert "'nobody-s'" in lab.missing("POST", f"{BENCHMARKS}/nobody-s/evaluations", body)


@field("get_benchmark benchmark_id (path) string")
def get_benchmark(lab: Lab) -> None:
    for function_id in ("basic::equality", "basic::subset_of"):
        benchmark = add_benchmark(lab, functions=[function_id])
        shown = lab.call("GET", f"{BENCHMARKS}/{benchmark}")
        assert (shown["identifier"], shown["scoring_functions"]) == (benchmark, [function_id])


class _Jobs:
    """A benchmark with a job that has ended and one that waits, and a benchmark with none."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.benchmark, self.other_benchmark = add_benchmark(lab), add_benchmark(lab)
        self.ended = lab.run_job(self.submit()).job_id
        self.waiting = self.submit()

    def submit(self) -> str:
        job_id: str = self._lab.call("POST", f"{BENCHMARKS}/{self.benchmark}/jobs", config())["job_id"]
        return job_id

    def path(self, job_id: str, benchmark: str = "") -> str:
        return f"{BENCHMARKS}/{benchmark or self.benchmark}/jobs/{job_id}"

    def statuses(self, *job_ids: str) -> list[str]:
        return [self._lab.call("GET", self.path(job_id))["status"] for job_id in job_ids]


@field("job_status benchmark_id (path) string")
def job_status_benchmark(lab: Lab) -> None:
    jobs = _Jobs(lab)
    assert lab.call("GET", jobs.path(jobs.waiting))["job_id"] == jobs.waiting
    assert jobs.waiting in lab.missing("GET", jobs.path(jobs.waiting, jobs.other_benchmark))


@field("job_status job_id (path) string")
def job_status(lab: Lab) -> None:
    jobs = _Jobs(lab)
    assert jobs.statuses(jobs.ended, jobs.waiting) == ["completed", "scheduled"]


@field("job_cancel benchmark_id (path) string")
def job_cancel_benchmark(lab: Lab) -> None:
    jobs = _Jobs(lab)
    assert jobs.waiting in lab.missing("DELETE", jobs.path(jobs.waiting, jobs.other_benchmark))
    assert jobs.statuses(jobs.waiting) == ["scheduled"]
    lab.call("DELETE", jobs.path(jobs.waiting))
    assert jobs.statuses(jobs.waiting) == ["cancelled"]


@field("job_cancel job_id (path) string")
def job_cancel(lab: Lab) -> None:
    jobs = _Jobs(lab)
    first, second = jobs.waiting, jobs.submit()
    lab.call("DELETE", jobs.path(second))
    assert jobs.statuses(first, second) == ["scheduled", "cancelled"]
    lab.call("DELETE", jobs.path(first))
    assert jobs.statuses(first, second) == ["cancelled", "cancelled"]


@field("job_result benchmark_id (path) string")
def job_result_benchmark(lab: Lab) -> None:
    jobs = _Jobs(lab)
    result = lab.call("GET", f"{jobs.path(jobs.ended)}/result")
    assert [generation["generated_answer"] for generation in result["generations"]] == ["an answer"] * len(ROWS)
    assert jobs.ended in lab.missing("GET", f"{jobs.path(jobs.ended, jobs.other_benchmark)}/result")


@field("job_result job_id (path) string")
def job_result(lab: Lab) -> None:
    """One of the jobs was cancelled before it found anything out."""
    jobs = _Jobs(lab)
    lab.call("DELETE", jobs.path(jobs.waiting))
    results = [lab.call("GET", f"{jobs.path(job_id)}/result") for job_id in (jobs.ended, jobs.waiting)]
    assert [len(result["generations"]) for result in results] == [len(ROWS), 0]

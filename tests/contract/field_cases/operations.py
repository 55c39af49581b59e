"""`run_eval` and `evaluate_rows`, the two operations that evaluate: the same fields, so the same experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contract.field_cases.lab import Lab
from contract.field_cases.registry import Case, field

RUN_EVAL = "run_eval"
EVALUATE_ROWS = "evaluate_rows"

ROWS = ({"question": "How many?", "answer": "an answer"}, {"question": "And why?", "answer": "because"})


class Found(NamedTuple):
    """What an evaluation answered, and what the other side was asked for it, in the order of arrival."""

    generations: list[dict[str, Any]]
    scores: dict[str, Any]
    asked: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        return [generation["generated_answer"] for generation in self.generations]


def config_field(line: str, **arguments: Any) -> Callable[[Case], Case]:
    """The decorated function is the case of a line of `BenchmarkConfig`, called with each of the two operations."""

    def register(case: Case) -> Case:
        field(f"run_eval {line}", operation=RUN_EVAL, **arguments)(case)
        return field(f"evaluate_rows benchmark_config.{line}", operation=EVALUATE_ROWS, **arguments)(case)

    return register


def config(model: str = "pupil", *, sampling: Any = None, system: Any = None, **more: Any) -> dict[str, Any]:
    """A `BenchmarkConfig`."""
    candidate = {"type": "model", "model": model, "sampling_params": sampling or {}}
    if system is not None:
        candidate["system_message"] = system
    return {"eval_candidate": candidate, **more}


def evaluate(
    lab: Lab,
    operation: str,
    benchmark_config: dict[str, Any],
    *,
    rows: Sequence[dict[str, Any]] = ROWS,
    functions: Sequence[str] = ("basic::equality",),
) -> Found:
    """Evaluate `rows` with `functions`: as a job on a benchmark of them, or at once."""
    method, path, body = request(lab, operation, benchmark_config, rows=rows, functions=functions)
    num_asked_before = len(lab.backend.requests)
    answer = lab.call(method, path, body)
    if operation == RUN_EVAL:
        job = lab.run_job(answer["job_id"])
        assert job.error is None
        answer = lab.call("GET", f"{path}/{job.job_id}/result")
    return Found(answer["generations"], answer["scores"], lab.asked(num_asked_before))


def request(
    lab: Lab,
    operation: str,
    benchmark_config: dict[str, Any],
    *,
    rows: Sequence[dict[str, Any]] = ROWS,
    functions: Sequence[str] = ("basic::equality",),
) -> tuple[str, str, dict[str, Any]]:
    """Method, path and body of the operation, on a benchmark of its own."""
    benchmark = add_benchmark(lab, rows, functions)
    if operation == RUN_EVAL:
        return "POST", f"/v1alpha/eval/benchmarks/{benchmark}/jobs", benchmark_config
    body = {"input_rows": list(rows), "scoring_functions": list(functions), "benchmark_config": benchmark_config}
    return "POST", f"/v1alpha/eval/benchmarks/{benchmark}/evaluations", body


def refusal(lab: Lab, operation: str, benchmark_config: dict[str, Any], **options: Any) -> tuple[str, str]:
    """Pointer, below the configuration, and message of what is refused for one reason."""
    pointer, message = lab.refusal(*request(lab, operation, benchmark_config, **options))
    return pointer.removeprefix("/benchmark_config"), message


def add_benchmark(
    lab: Lab, rows: Sequence[dict[str, Any]] = ROWS, functions: Sequence[str] = ("basic::equality",)
) -> str:
    """Register a benchmark of these rows; returns its id."""
    body = {
        "benchmark_id": lab.new_id("benchmark"),
        "dataset_id": lab.add_dataset(list(rows)),
        "scoring_functions": list(functions),
    }
    identifier: str = lab.call("POST", "/v1alpha/eval/benchmarks", body)["identifier"]
    return identifier

"""`paddock eval` against the real app, with a worker whose eval jobs ask a model server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app_server import AppServer
from model_server import ModelServer
from paddock.cli import main
from paddock.jobs.worker import Worker
from paddock.server.app import create_app
from paddock.wiring import Resources

Invoke = Callable[..., Result]


@pytest.fixture
def server(resources: Resources) -> Iterator[AppServer]:
    worker = Worker(resources.settings, resources.data_dir, resources.jobs)
    worker.start()
    with AppServer(create_app(resources, wake_worker=worker.wake)) as server:
        yield server
    worker.stop()


def test_run_follows_and_shows_the_score(invoke: Invoke, sums: str, adder: str) -> None:
    output = invoke("eval", "run", sums, "--model", adder).output
    line = " ".join(next(line for line in output.splitlines() if line.startswith("basic::equality")).split())
    assert line.startswith("basic::equality accuracy 75.0 % ")
    assert line.endswith(" 8 0")


def test_result_is_that_of_the_job(invoke: Invoke, sums: str, adder: str, resources: Resources) -> None:
    words = ("eval", "run", sums, "--model", adder, "--num-examples", "3")
    scores = json.loads(invoke(*words, "--json").output)["scores"]
    assert len(scores["basic::equality"]["score_rows"]) == 3
    job_id = resources.jobs.list(kinds=["eval"])[0].job_id
    assert json.loads(invoke("eval", "result", sums, job_id, "--json").output)["scores"] == scores
    assert "accuracy 100.0 %" in invoke("eval", "result", sums, job_id).output
    assert "nope" in invoke("eval", "result", sums, "nope", code=1).output


def test_rows_of_a_file_are_judged_at_once(
    invoke: Invoke, sums: str, adder: str, write_rows: Callable[..., Path], resources: Resources
) -> None:
    file = write_rows({"question": "5 + 1", "answer": "6"}, {"question": "7 + 1", "answer": "8"})
    assert "accuracy 50.0 %" in invoke("eval", "rows", sums, file, "--model", adder).output
    assert resources.jobs.list(kinds=["eval"]) == []


def test_every_option_reaches_the_model(invoke: Invoke, sums: str, adder: str, model_server: ModelServer) -> None:
    words = (
        f"eval run {sums} --model {adder} --num-examples 1 --max-tokens 7 --temperature 0.5 --top-p 0.9 --stop X --stop Y "
        "--system Add."
    )
    invoke(*words.split())
    path, body, _ = model_server.requests[-1]
    assert path == "/v1/chat/completions"
    assert body["model"] == "adder-1"
    assert body["messages"][0] == {"role": "system", "content": "Add."}
    assert (body["temperature"], body["top_p"], body["stop"]) == (0.5, 0.9, ["X", "Y"])
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))


@pytest.mark.parametrize(
    ("words", "strategy"),
    [
        ([], {"type": "greedy"}),
        (["--temperature", "0"], {"type": "greedy"}),
        (["--temperature", "0.7"], {"type": "top_p", "temperature": 0.7}),
        (["--temperature", "0.7", "--top-p", "0.5"], {"type": "top_p", "temperature": 0.7, "top_p": 0.5}),
        (["--top-k", "5"], {"type": "top_k", "top_k": 5}),
    ],
)
def test_strategies(
    invoke: Invoke, sums: str, adder: str, resources: Resources, words: list[str], strategy: dict[str, Any]
) -> None:
    output = invoke("eval", "run", sums, "--model", adder, *words, "--no-follow").output
    job = resources.jobs.list(kinds=["eval"])[0]
    assert f"paddock eval result {sums} {job.job_id}" in output
    assert find(job.request, "strategy") == strategy


def test_several_benchmarks_are_judged_and_written(
    invoke: Invoke, sums: str, adder: str, tmp_path: Path, resources: Resources
) -> None:
    invoke("benchmarks", "register", "second", "--dataset", sums, "--scoring", "basic::subset_of")
    folder = tmp_path / "results"
    output = invoke("eval", "run", sums, "second", "--model", adder, "--output-dir", folder, "--visualize").output
    assert [word for word in output.split() if word in (sums, "second")] == [sums, "second"]
    bars = [line.split() for line in output.splitlines() if "█" in line]
    assert [bar[:3] for bar in bars[:2]] == [["basic::equality", "0.0", "2"], ["basic::equality", "1.0", "6"]]
    assert len(bars[0][3]) * 3 == len(bars[1][3])
    assert sorted(file.name for file in folder.iterdir()) == ["my%2Fsums.json", "second.json"]
    written = json.loads((folder / "second.json").read_text())
    assert [row["generated_answer"] for row in written["generations"]][:2] == ["1", "2"]
    answers = json.loads(invoke("eval", "run", sums, "second", "--model", adder, "--json").output)
    assert answers["second"]["scores"] == written["scores"]
    assert (
        "--follow"
        in invoke("eval", "run", sums, "--model", adder, "--output-dir", folder, "--no-follow", code=2).output
    )


def test_a_failed_benchmark_takes_no_other_with_it(
    invoke: Invoke, sums: str, adder: str, write_rows: Callable[..., Path], resources: Resources
) -> None:
    rows = write_rows({"question": "refuse", "answer": "1"}, name="refused.jsonl")
    invoke("datasets", "register", "refused", "--purpose", "eval/question-answer", "--file", rows)
    invoke("benchmarks", "register", "refused", "--dataset", "refused", "--scoring", "basic::equality")
    output = invoke("eval", "run", "refused", sums, "--model", adder, code=1).output
    assert "accuracy 75.0 %" in output
    assert "is failed: The provider lab refused the request" in output


def test_jobs_that_are_left_are_named(invoke: Invoke, sums: str, adder: str, resources: Resources) -> None:
    invoke("benchmarks", "register", "second", "--dataset", sums, "--scoring", "basic::equality")
    made = json.loads(invoke("eval", "run", sums, "second", "--model", adder, "--no-follow", "--json").output)
    assert [job["benchmark_id"] for job in made] == [sums, "second"]
    assert {job["job_id"] for job in made} == {job.job_id for job in resources.jobs.list(kinds=["eval"])}
    one = json.loads(invoke("eval", "run", sums, "--model", adder, "--no-follow", "--json").output)
    assert set(one) == {"benchmark_id", "job_id"}


def find(value: Any, name: str) -> dict[str, Any]:
    """The first member `name` at any depth."""
    if isinstance(value, dict):
        if name in value:
            return dict(value[name])
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        if found := find(item, name):
            return found
    return {}


@pytest.mark.parametrize("words", [["--top-k", "5", "--temperature", "1"], ["--top-p", "0.9"]])
def test_strategies_that_the_contract_does_not_know(invoke: Invoke, sums: str, words: list[str]) -> None:
    assert invoke("eval", "run", sums, "--model", "m", *words, code=2).output.startswith("Usage:")


def test_a_judge_is_named_for_the_functions_that_need_one(
    invoke: Invoke, sums: str, adder: str, resources: Resources
) -> None:
    functions = ("--scoring", "basic::equality", "--scoring", "llm-as-judge::base")
    invoke("benchmarks", "register", "judged", "--dataset", sums, *functions)
    invoke("eval", "run", "judged", "--model", adder, "--judge-model", adder, "--no-follow")
    params = find(resources.jobs.list(kinds=["eval"])[0].request, "scoring_params")
    assert params["llm-as-judge::base"]["judge_model"] == adder
    assert "basic::equality" not in params


def test_an_unknown_model_is_refused_by_its_place(invoke: Invoke, sums: str) -> None:
    output = invoke("eval", "run", sums, "--model", "nobody", code=1).output
    assert "nobody" in output
    assert "/eval_candidate/model" in output


def test_the_server_may_be_named_by_the_option(server: AppServer, invoke: Invoke, sums: str, adder: str) -> None:
    words = ["eval", "run", sums, "--model", adder, "--no-follow", "--url", server.url]
    assert f"--url {server.url}" in CliRunner().invoke(main, words).output


def test_two_models_are_compared_row_by_row(invoke: Invoke, sums: str, adder: str, resources: Resources) -> None:
    invoke("models", "register", "other", "--provider", "lab", "--name", "adder-2")
    jobs = []
    for model in (adder, "other"):
        invoke("eval", "run", sums, "--model", model)
        jobs.append(resources.jobs.list(kinds=["eval"])[0].job_id)
    output = " ".join(invoke("eval", "compare", *jobs).output.split())
    assert "basic::equality adder 75.0 % other 50.0 % -25.0 points" in output
    assert "Only other right: 0 rows; only adder right: 2. Their scores differ on 2 rows: 4, 5" in output
    (found,) = json.loads(invoke("eval", "compare", *jobs, "--json").output)["data"]
    assert (found["num_compared"], found["num_flipped"], found["p_value"]) == (8, 2, pytest.approx(0.5))
    assert "baseline first" in invoke("eval", "compare", jobs[0], code=2).output
    assert "nope" in invoke("eval", "compare", jobs[0], "nope", code=1).output


def test_samples_reach_the_model(invoke: Invoke, sums: str, adder: str, model_server: ModelServer) -> None:
    words = f"eval run {sums} --model {adder} --num-examples 1 --temperature 1 --num-samples 3 --pass-at 1 --pass-at 3"
    result = invoke(*words.split(), "--seed", "8")
    assert sorted(body["seed"] for _, body, _ in model_server.requests[-3:]) == [8, 9, 10]
    assert "pass@3" in result.output


def test_a_result_is_exported_and_derived_again(
    invoke: Invoke, sums: str, adder: str, resources: Resources, tmp_path: Path
) -> None:
    invoke("eval", "run", sums, "--model", adder)
    (job,) = resources.jobs.list(kinds=["eval"])
    file = tmp_path / "sums.zip"
    assert str(file.name) in invoke("eval", "export", job.job_id, file).output
    assert "The same, byte for byte" in invoke("eval", "rescore", file).output
    told = json.loads(invoke("eval", "result", sums, job.job_id, "--json").output)
    found = json.loads(invoke("eval", "rescore", file, "--json").output)
    assert found == {name: scores["aggregated_results"] for name, scores in told["scores"].items()}
    other = json.loads(invoke("eval", "rescore", file, "--scoring-function", "text::f1", "--json").output)
    assert list(other) == ["text::f1"]
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


def test_what_cannot_be_exported_or_rescored(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    assert "no-such-job" in invoke("eval", "export", "no-such-job", file, code=1).output
    assert not file.exists()
    file.write_bytes(b"x")
    assert "cannot be read" in invoke("eval", "rescore", file, code=1).output
    assert "--scoring-function" in invoke("eval", "rescore", file, "--scoring-params", '{"a": {}}', code=2).output

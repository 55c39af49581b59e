"""`paddock benchmarks import` against the real app: what is registered is what there was to import, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]

TASK = """
task: my/task
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
doc_to_text: "{{q}} ="
doc_to_target: a
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
should_decontaminate: true
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = ({"q": f"{i} + 1", "a": str(i + 1)} for i in range(1200))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text(TASK)
    return path


def test_a_task_becomes_a_benchmark(invoke: Invoke, task: Path) -> None:
    output = invoke("benchmarks", "import", task).output
    assert "my/task is on the dataset my/task of 1,200 rows, scored by my/task/none/exact_match." in output
    assert "Not carried: should_decontaminate. It changes no score." in output
    benchmark = json.loads(invoke("benchmarks", "show", "my/task").output)
    assert benchmark["scoring_functions"] == ["my/task/none/exact_match"]
    assert benchmark["metadata"]["asking"] == {"manner": "completion", "max_tokens": 4, "stop": ["\n"]}
    rows = invoke("datasets", "rows", "my/task").output.splitlines()
    assert [json.loads(row) for row in (rows[0], rows[-1])] == [
        {"question": "0 + 1 =", "answer": "1"},
        {"question": "1199 + 1 =", "answer": "1200"},
    ]
    assert len(rows) == 1200
    # The same again is the same.
    assert "of 1,200 rows" in invoke("benchmarks", "import", task).output
    assert len(invoke("datasets", "rows", "my/task").output.splitlines()) == 1200


def test_a_dry_run_registers_nothing(invoke: Invoke, task: Path) -> None:
    found = json.loads(invoke("benchmarks", "import", task, "--dry-run", "--id", "other", "--json").output)
    assert found["datasets"][0]["num_rows"] == 1200
    assert found["benchmarks"][0]["benchmark_id"] == "other"
    assert found["not_carried"] == [{"key": "should_decontaminate", "reason": "It changes no score."}]
    for command in ("benchmarks", "datasets"):
        assert "other" not in invoke(command, "list").output


def test_nothing_is_left_of_a_suite_that_is_refused(invoke: Invoke, task: Path, sums: str) -> None:
    """The last of what is registered, the benchmark, meets another one of its id."""
    invoke("benchmarks", "register", "my/task", "--dataset", sums, "--scoring", "basic::equality")
    assert "my/task" in invoke("benchmarks", "import", task, code=1).output
    assert "my/task" not in invoke("datasets", "list").output
    assert "my/task/none" not in invoke("scoring", "list").output
    assert json.loads(invoke("benchmarks", "show", "my/task").output)["dataset_id"] == sums


def test_what_cannot_be_imported_says_why(invoke: Invoke, task: Path) -> None:
    task.write_text(TASK + "process_docs: !function utils.process\n")
    output = invoke("benchmarks", "import", task, code=1).output
    assert "task.yaml is not imported. `process_docs` is Python code (utils.process), which is not run" in output
    assert "my/task" not in invoke("datasets", "list").output


def test_rows_of_the_hub_are_the_server_s_to_read(invoke: Invoke, task: Path) -> None:
    task.write_text(
        TASK.replace("dataset_path: json", "dataset_path: owner/name").replace("dataset_kwargs", "metadata")
    )
    output = invoke("benchmarks", "import", task, code=1).output
    assert "dataset_hosts" in output
    assert "import-" not in invoke("datasets", "list").output


STACK = """
version: 2
image_name: open-benchmark
providers: {{inference: [{{provider_id: openai, provider_type: remote::openai}}]}}
{datasets}
scoring_fns:
- scoring_fn_id: mine
  description: d
  return_type: {{type: number}}
  params: {{type: regex_parser, parsing_regexes: [x]}}
- {{scoring_fn_id: spare, description: d, return_type: {{type: number}}}}
benchmarks:
- {{benchmark_id: math, dataset_id: numbers, scoring_functions: ["basic::regex_parser_math_response", mine]}}
- {{benchmark_id: simple, dataset_id: words, scoring_functions: ["llm-as-judge::405b-simpleqa"], metadata: {{v: 1}}}}
- {{benchmark_id: hidden, dataset_id: elsewhere, scoring_functions: ["basic::equality"], provider_id: meta}}
- {{benchmark_id: odd, dataset_id: words, scoring_functions: ["basic::nope"]}}
- {{benchmark_id: lost, dataset_id: gone, scoring_functions: ["basic::equality"]}}
"""
DATASETS = """datasets:
- dataset_id: numbers
  purpose: eval/messages-answer
  source: {type: uri, uri: "data:application/jsonl,%7B%22messages%22%3A%5B%5D%2C%22answer%22%3A%221%22%7D"}
  metadata: {day: 2024-03-05}
- dataset_id: words
  purpose: eval/question-answer
  source: {type: rows, rows: [{question: q, answer: a}]}
  metadata: {}
- {dataset_id: elsewhere, purpose: eval/question-answer, source: {type: uri, uri: "${env.WHERE:=x}"}}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(STACK.format(datasets=DATASETS))
    return path


def test_open_benchmarks_of_a_llama_stack_configuration(invoke: Invoke, stack: Path) -> None:
    found = json.loads(invoke("benchmarks", "import", stack, "--json").output)
    assert [benchmark["benchmark_id"] for benchmark in found["benchmarks"]] == ["math", "simple"]
    reasons = {note["key"]: note["reason"] for note in found["not_carried"]}
    assert reasons.keys() == {
        *(
            "version",
            "image_name",
            "providers",
            "benchmarks.simple",
            "benchmarks.hidden",
            "benchmarks.hidden.provider_id",
        ),
        *("benchmarks.odd", "benchmarks.lost", "datasets.elsewhere", "scoring_fns.spare"),
    }
    assert "--judge-model" in reasons["benchmarks.simple"]
    assert "environment" in reasons["benchmarks.hidden"]
    assert "'basic::nope'" in reasons["benchmarks.odd"]
    assert "'gone'" in reasons["benchmarks.lost"]
    assert json.loads(invoke("benchmarks", "show", "simple").output)["metadata"] == {"v": 1}
    listed = json.loads(invoke("datasets", "list", "--json").output)["data"]
    assert {dataset["identifier"]: dataset["metadata"]["num_rows"] for dataset in listed} == {"numbers": 1, "words": 1}
    assert "mine" in invoke("scoring", "list").output
    assert "math is on the dataset numbers, scored by" in invoke("benchmarks", "import", stack).output


def test_some_of_the_open_benchmarks(invoke: Invoke, stack: Path) -> None:
    assert (
        "Not carried: benchmarks.math. It was not asked"
        in invoke("benchmarks", "import", stack, "--only", "simple").output
    )
    assert "numbers" not in invoke("datasets", "list").output
    assert "no benchmark 'nope'" in invoke("benchmarks", "import", stack, "--only", "nope", code=1).output
    assert "None of its benchmarks" in invoke("benchmarks", "import", stack, "--only", "odd", code=1).output
    assert "--id" in invoke("benchmarks", "import", stack, "--id", "x", code=2).output


def test_registered_resources_are_read_too(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    nested = "".join(f"  {line}\n" for line in DATASETS.splitlines())
    path.write_text(
        f"registered_resources:\n{nested}  benchmarks:\n"
        "  - {benchmark_id: b, dataset_id: words, scoring_functions: ['basic::equality']}\n"
    )
    assert "b is on the dataset words" in invoke("benchmarks", "import", path).output


def test_a_dataset_that_the_server_may_not_read_leaves_nothing(invoke: Invoke, stack: Path) -> None:
    hub = DATASETS.replace(
        "data:application/jsonl,%7B%22messages%22%3A%5B%5D%2C%22answer%22%3A%221%22%7D",
        "huggingface://datasets/llamastack/math_500?split=test",
    )
    stack.write_text(STACK.format(datasets=hub))
    assert "dataset_hosts" in invoke("benchmarks", "import", stack, code=1).output
    assert json.loads(invoke("datasets", "list", "--json").output)["data"] == []
    assert json.loads(invoke("benchmarks", "list", "--json").output)["data"] == []


def test_python_in_a_configuration_is_refused(invoke: Invoke, stack: Path) -> None:
    stack.write_text(STACK.format(datasets=DATASETS.replace("{day: 2024-03-05}", "{day: !function os.system}")))
    assert "Python code in it (os.system)" in invoke("benchmarks", "import", stack, code=1).output


def test_only_is_for_several_benchmarks(invoke: Invoke, task: Path) -> None:
    assert "--only" in invoke("benchmarks", "import", task, "--only", "x", code=2).output

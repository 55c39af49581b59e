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
    assert "my/task has 1,200 rows." in output
    assert "Scored by my/task/none/exact_match." in output
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
    assert "my/task has 1,200 rows." in invoke("benchmarks", "import", task).output
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

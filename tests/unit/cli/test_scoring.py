"""`paddock scoring` against the real app."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from paddock.cli import scoring

Invoke = Callable[..., Result]


def test_a_functions_life(invoke: Invoke, adder: str, tmp_path: Path) -> None:
    assert "basic::equality" in invoke("scoring", "list").output
    params = tmp_path / "params.yaml"
    params.write_text(f"type: llm_as_judge\njudge_model: {adder}\n")
    words = ("scoring", "register", "my/judge", "--params", params, "--description", "Mine.")
    assert invoke(*words).output == "my/judge is registered.\n"
    shown = json.loads(invoke("scoring", "show", "my/judge").output)
    assert (shown["description"], shown["params"]["judge_model"]) == ("Mine.", adder)
    assert "Mine." in invoke("scoring", "list").output
    invoke("scoring", "delete", "my/judge")
    assert "my/judge" in invoke("scoring", "show", "my/judge", code=1).output


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Seven answers, five of them right."""
    file = tmp_path / "answers.csv"
    pairs = [(f"{i}", f"{i}" if i < 5 else "no") for i in range(7)]
    file.write_text("".join(f"{a},{b}\n" for a, b in [("expected_answer", "generated_answer"), *pairs]))
    return file


def test_rows_of_a_file_are_scored_with_all_that_an_evaluation_says(
    invoke: Invoke, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_ROWS_AT_ONCE", 3)  # what is shown is of all rows, not of a request's
    output = tmp_path / "scored.jsonl"
    words = ("scoring", "run", "basic::equality", "basic::subset_of", "--file", answers)
    shown = invoke(*words, "--output", output, "--visualize").output
    line = " ".join(next(line for line in shown.splitlines() if line.startswith("basic::equality")).split())
    assert line.startswith("basic::equality accuracy 71.4 % ")
    assert line.endswith(" 7 0")
    assert "█" in shown
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["scores"]["basic::equality"]["score"] for row in written] == [1, 1, 1, 1, 1, 0, 0]
    assert written[5]["row"] == {"expected_answer": "5", "generated_answer": "no"}
    whole = json.loads(invoke(*words, "--json").output)["results"]["basic::equality"]
    monkeypatch.undo()
    assert json.loads(invoke(*words, "--json").output)["results"]["basic::equality"] == whole
    assert (whole["aggregated_results"]["accuracy"]["num_correct"], len(whole["score_rows"])) == (5, 7)


def test_rows_of_a_dataset_are_scored(invoke: Invoke, answers: Path) -> None:
    invoke("datasets", "register", "answers", "--purpose", "eval/question-answer", "--file", answers)
    words = ("scoring", "run", "basic::equality", "--dataset", "answers", "--num-examples", "4", "--json")
    (result,) = json.loads(invoke(*words).output)["results"].values()
    assert [row["score"] for row in result["score_rows"]] == [1, 1, 1, 1]


def test_parameters_go_to_their_function(invoke: Invoke, answers: Path) -> None:
    function = "basic::regex_parser_multiple_choice_answer"
    params = json.dumps({function: {"type": "regex_parser", "parsing_regexes": ["(n)o"]}})
    words = ("scoring", "run", function, "--file", answers, "--params", params, "--json")
    (result,) = json.loads(invoke(*words).output)["results"].values()
    assert [row["extracted_answer"] for row in result["score_rows"]] == [None] * 5 + ["N"] * 2


@pytest.mark.parametrize(
    "words", [[], ["--dataset", "d", "--file", "FILE"], ["--dataset", "d", "--params", '{"other": null}']]
)
def test_what_is_scored_must_be_said_once(invoke: Invoke, answers: Path, words: list[str]) -> None:
    words = [str(answers) if word == "FILE" else word for word in words]
    assert invoke("scoring", "run", "basic::equality", *words, code=2).output.startswith("Usage:")


def test_no_rows_are_no_score(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    output = invoke("scoring", "run", "basic::equality", "--file", tmp_path / "none.jsonl", code=1).output
    assert output == "Error: There are no rows.\n"

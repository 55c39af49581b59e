"""Tasks of lm-evaluation-harness: what becomes of them, held against what the harness itself asked (`golden/suites`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock.client import Client
from paddock.suites import lm_eval
from paddock.suites.suite import Suite, SuiteError

GOLDEN = Path(__file__).parents[2] / "golden" / "suites"
RECORDED: dict[str, Any] = json.loads((GOLDEN / "recorded.json").read_text(encoding="utf-8"))
NOBODY = Client("http://127.0.0.1:1")

TASK = {
    "task": "t",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "dev": "rows.jsonl"}},
    "test_split": "test",
    "doc_to_text": "q",
    "doc_to_target": "a",
}
CHOICE = TASK | {"output_type": "multiple_choice", "doc_to_choice": "{{c}}"}
ROWS = [{"q": f"Q{i}", "a": i % 2, "c": ["no", "yes"]} for i in range(5)]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Suite]:
    """Load a task that is made of changes to another; a change to None leaves a key out."""

    def load_it(task: dict[str, Any], /, *, rows: Any = ROWS, seed: int = 1234, **changes: Any) -> Suite:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {key: value for key, value in (task | changes).items() if value is not None}
        path = tmp_path / "t.yaml"
        text = yaml.safe_dump(config, sort_keys=False)
        path.write_text(text.replace("'!function ", "!function '"))
        return lm_eval.load(path, NOBODY, fewshot_seed=seed)

    return load_it


def rows_of(suite: Suite, dataset_id: str = "t") -> list[dict[str, Any]]:
    return [json.loads(row) for row in suite.rows[dataset_id]]


def questions(suite: Suite) -> list[str]:
    return [row["question"] for row in rows_of(suite)]


@pytest.mark.parametrize("task", RECORDED)
def test_rows_ask_what_the_harness_asked(task: str) -> None:
    suite = lm_eval.load(GOLDEN / f"{task}.yaml", NOBODY)
    rows = rows_of(suite, task)
    recorded = RECORDED[task]["rows"]
    assert [row["question"] for row in rows] == [row["context"] for row in recorded]
    if "continuations" in recorded[0]:
        found = [[row["target_delimiter"] + choice for choice in row["choices"]] for row in rows]
        assert found == [row["continuations"] for row in recorded]


def test_a_task_that_generates(load: Callable[..., Suite]) -> None:
    suite = lm_eval.load(GOLDEN / "dates_written.yaml", NOBODY, benchmark_id="my/dates")
    (benchmark,) = suite.benchmarks
    assert benchmark["benchmark_id"] == benchmark["dataset_id"] == "my/dates"
    assert benchmark["metadata"]["asking"] == {
        "manner": "completion",
        "max_tokens": 16,
        "stop": ["<|end|>", "\n"],
    }
    assert benchmark["metadata"]["lm_eval"]["task"] == "dates_written"
    assert benchmark["scoring_functions"] == ["my/dates/whole/exact_match", "my/dates/last-number/exact_match"]
    matching = {"ignore_case": True, "ignore_punctuation": False, "regexes_to_ignore": [r"(?<=\d\d)[\d-]*$"]}
    assert [function["params"] for function in suite.scoring_functions] == [
        {
            "type": "regex_parser",
            "parsing_regexes": patterns,
            "aggregation_functions": ["accuracy"],
            "matching": matching | more,
        }
        for patterns, more in (([], {}), ([r"(?:\d{4}-(\d{2}))|(\d+)"], {"select": -1}))
    ]
    assert suite.notes == []
    plain = load(TASK, doc_to_target="{{a}}").benchmarks[0]["metadata"]["asking"]
    assert plain == {"manner": "completion", "max_tokens": 256, "stop": ["\n\n"]}


def test_the_harness_s_default_metrics(load: Callable[..., Suite]) -> None:
    assert load(CHOICE).benchmarks[0]["scoring_functions"] == ["loglikelihood::acc", "loglikelihood::acc_norm"]
    assert load(TASK).benchmarks[0]["scoring_functions"] == ["t/none/exact_match"]
    assert "asking" not in load(CHOICE).benchmarks[0]["metadata"]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, 1),
        ({"doc_to_target": "{{a}}"}, 1),
        ({"doc_to_target": "{{c[a]}}"}, 1),
        ({"doc_to_target": "{{[a, 0]}}"}, "[1, 0]"),
        ({"doc_to_target": 1}, 1),
        ({"doc_to_choice": ["no", "yes"]}, 1),
        ({"doc_to_choice": {"n": "no", "y": "yes"}}, 1),
        ({"doc_to_choice": "c"}, 1),
    ],
)
def test_the_right_choice(load: Callable[..., Suite], changes: dict[str, Any], answer: Any) -> None:
    assert rows_of(load(CHOICE, **changes))[1] == {
        "question": "Q1",
        "choices": ["no", "yes"],
        "answer": answer,
        "target_delimiter": " ",
    }


def test_first_n_examples_and_delimiters(load: Callable[..., Suite]) -> None:
    changes = {"num_fewshot": 2, "fewshot_split": "dev", "description": "Say. ", "target_delimiter": ": "}
    more = {"fewshot_delimiter": "; ", "fewshot_config": {"sampler": "first_n"}}
    assert questions(load(CHOICE, **changes, **more))[3] == "Say. Q0: no; Q1: yes; Q3"
    own = {"sampler": "first_n", "doc_to_text": "({{q}})", "fewshot_delimiter": "|", "target_delimiter": "="}
    assert questions(load(CHOICE, **changes, fewshot_config=own))[3] == "Say. (Q0)=no|(Q1)=yes|Q3"
    given = {"samples": [{"q": "X", "a": 1, "c": ["n", "y"]}, {"q": "Y", "a": 0, "c": ["n", "y"]}]}
    found = load(CHOICE, num_fewshot=2, fewshot_config=given | {"sampler": "first_n"})
    assert questions(found)[0] == "X y\n\nY n\n\nQ0"


def test_a_row_is_no_example_of_itself(load: Callable[..., Suite]) -> None:
    first = {"num_fewshot": 2, "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"}}
    assert questions(load(CHOICE, **first))[0] == "Q1 yes\n\nQ2 no\n\nQ0"
    drawn = load(CHOICE, num_fewshot=4, fewshot_split="test")
    assert all(text.count(f"Q{i}") == 1 for i, text in enumerate(questions(drawn)))


def test_examples_are_drawn_by_the_seed(load: Callable[..., Suite]) -> None:
    changes = {"num_fewshot": 3, "fewshot_split": "dev"}
    assert questions(load(CHOICE, **changes)) == questions(load(CHOICE, **changes))
    assert questions(load(CHOICE, **changes)) != questions(load(CHOICE, **changes, seed=5))


def test_a_prefix_of_answers(load: Callable[..., Suite]) -> None:
    found = load(CHOICE, gen_prefix="So,", num_fewshot=1, fewshot_split="dev", fewshot_config={"sampler": "first_n"})
    assert questions(found)[1] == "Q0 So, no\n\nQ1 So,"


def test_several_answers_and_choices_of_texts(load: Callable[..., Suite]) -> None:
    several = load(TASK, doc_to_target="{{[q, 'x']}}")
    assert rows_of(several)[0] == {"question": "Q0", "answer": "Q0", "answers": ["Q0", "x"]}
    chosen = load(TASK, doc_to_choice="c")
    assert [row["answer"] for row in rows_of(chosen)] == ["no", "yes", "no", "yes", "no"]


def test_what_is_not_carried_is_told(load: Callable[..., Suite]) -> None:
    suite = load(
        TASK,
        repeats=3,
        should_decontaminate=True,
        surprise=1,
        generation_kwargs={"until": "\n", "do_sample": True, "temperature": 0.7, "top_p": 0.9},
        filter_list=[
            {"name": "kept", "filter": [{"function": "regex", "fallback": "x"}, {"function": "take_first"}]},
            {"name": "voted", "filter": [{"function": "majority_vote"}]},
        ],
        metric_list=[
            {"metric": "exact_match", "aggregation": "mean", "strange": 1},
            {"metric": "exact_match", "aggregation": "!function utils.agg"},
            {"metric": "bleu"},
            {"metric": "!function utils.own"},
        ],
        fewshot_config={"fewshot_indices": [1]},
    )
    assert {note.key for note in suite.notes} == {
        "repeats",
        "should_decontaminate",
        "surprise",
        "generation_kwargs.temperature",
        "generation_kwargs.top_p",
        "filter_list.kept.fallback",
        "filter_list.voted",
        "metric_list.exact_match.strange",
        "metric_list.exact_match",
        "metric_list.bleu",
        "metric_list.!function utils.own",
        "fewshot_config.fewshot_indices",
    }
    assert suite.benchmarks[0]["scoring_functions"] == ["t/kept/exact_match"]
    plain = load(TASK, metric_list=[{"metric": "bleu"}, {"metric": "chrf"}])
    assert plain.benchmarks[0]["scoring_functions"] == ["text::bleu", "text::chrf"]
    assert [note.key for note in plain.notes] == ["metric_list.bleu", "metric_list.chrf"]


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (TASK, {"doc_to_text": "!function utils.text"}, r"`doc_to_text` is Python code \(utils.text\)"),
        (TASK, {"process_docs": "!function utils.docs"}, r"`process_docs` is Python code"),
        (TASK, {"process_results": "!function utils.results"}, "`process_results` is Python code"),
        (TASK, {"fewshot_config": {"samples": "!function utils.samples"}}, "`fewshot_config.samples` is Python code"),
        (TASK, {"dataset_kwargs": {"data_files": ["!function x.y"]}}, "`dataset_kwargs.data_files` is Python code"),
        (TASK, {"use_prompt": "promptsource:GPT-3"}, "`use_prompt` is not understood"),
        (TASK, {"doc_to_image": "image"}, "`doc_to_image` is not understood"),
        (TASK, {"output_type": "loglikelihood_rolling"}, "only multiple_choice and generate_until"),
        (TASK, {"task": ["a", "b"]}, "a group of tasks"),
        (TASK, {"group": "g"}, "a group of tasks"),
        (TASK, {"task": None}, "names no `task`"),
        (TASK, {"test_split": None}, "neither a `test_split`"),
        (TASK, {"test_split": "train"}, "no split 'train'"),
        (TASK, {"dataset_path": None}, "no `dataset_path`"),
        (TASK, {"dataset_kwargs": {"data_files": {"test": "../rows.jsonl"}}}, "not below the folder"),
        (TASK, {"dataset_kwargs": {"data_files": {"test": "/etc/hostname"}}}, "not below the folder"),
        (TASK, {"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "gone.jsonl cannot be read"),
        (TASK, {"doc_to_text": None}, "has no `doc_to_text`"),
        (TASK, {"doc_to_text": "{{gone}}"}, "`doc_to_text` cannot be rendered: 'gone' is undefined"),
        (TASK, {"doc_to_text": ["x"]}, "`doc_to_text` must be a text"),
        (CHOICE, {"num_fewshot": 6}, "too few examples"),
        (TASK, {"num_fewshot": -1}, "`num_fewshot`"),
        (CHOICE, {"num_fewshot": 1, "fewshot_config": {"sampler": "balanced"}}, "'balanced' is neither"),
        (TASK, {"metric_list": [{"metric": "pass_at_k"}]}, "None of the task's metrics"),
        (TASK, {"metric_list": "exact_match"}, "`metric_list` must be"),
        (TASK, {"filter_list": [{"name": "x"}]}, "`filter_list` must be"),
        (TASK, {"generation_kwargs": {"until": [1]}}, "`generation_kwargs.until`"),
        (CHOICE, {"doc_to_text": "{{a}}"}, "choices stand in the question"),
        (CHOICE, {"doc_to_choice": "{{c[0]}}"}, "`doc_to_choice` gives 'no'"),
        (CHOICE, {"doc_to_choice": ["only"]}, "fewer than two choices"),
        (CHOICE, {"doc_to_target": "{{7}}"}, "`doc_to_target` gives 7"),
        (CHOICE, {"metric_list": [{"metric": "f1"}]}, "None of the task's metrics"),
        (CHOICE, {"filter_list": [{"name": "x", "filter": [{"function": "regex"}]}]}, "`filter_list` of a multiple"),
    ],
)
def test_what_cannot_mean_the_same_is_refused(
    load: Callable[..., Suite], task: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SuiteError, match=message):
        load(task, **changes)


def test_parquet_and_json_documents_are_read(tmp_path: Path, load: Callable[..., Suite]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    (tmp_path / "all.json").write_text(json.dumps(ROWS))
    by_lines = rows_of(load(CHOICE))
    from_parquet = load(CHOICE, dataset_path="parquet", dataset_kwargs={"data_files": {"test": "rows.parquet"}})
    from_document = load(CHOICE, dataset_kwargs={"data_files": {"test": ["all.json"]}})
    assert rows_of(from_parquet) == rows_of(from_document) == by_lines

"""What a terminal shows: numbers in words, scores with what stands behind them, a job on its way."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from paddock import terminal
from paddock.client import ClientError, JobUpdate
from paddock.errors import FieldError


def console(**options: Any) -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False, **options)


def shown(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def update(status: str, done: int | None = None, total: int | None = None, *points: dict[str, Any]) -> JobUpdate:
    progress = None if done is None else {"done": done, "total": total, "unit": "steps"}
    return JobUpdate({"job_id": "j", "status": status, "progress": progress, "error": None}, list(points))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (3.21, "3.2 s"), (48.4, "48 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3840, "1 h 04 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert terminal.duration(seconds) == words


def test_a_share_in_percent() -> None:
    assert terminal.percent(0.98333) == "98.3 %"
    assert terminal.percent(0.0) == "0.0 %"
    assert terminal.percent(None) == "–"


def test_sparkline_follows_the_means_of_its_parts() -> None:
    assert terminal.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert terminal.sparkline([7, 7, 0, 0], width=2) == "█▁"
    assert terminal.sparkline([5.0, 5.0]) == "▁▁"
    assert terminal.sparkline([]) == ""
    assert len(terminal.sparkline([float(i) for i in range(1000)], width=30)) == 30


def test_scores_show_their_result_interval_and_counts() -> None:
    accuracy = {"accuracy": 0.75, "num_correct": 3, "num_total": 5, "num_scored": 4, "num_failed": 1, "stderr": 0.2}
    scores = {
        "basic::equality": {"score_rows": [], "aggregated_results": {"accuracy": accuracy | {"ci95": [0.3, 0.954]}}},
        "llm-as-judge::base": {
            "score_rows": [],
            "aggregated_results": {
                "average": {"average": 7.123456, "ci95": None, "num_scored": 1, "num_failed": 0},
                "categorical_count": {"categorical_count": {"A": 3, "B": 1}, "num_scored": 4, "num_failed": 0},
                "median": {"median": None, "ci95": None, "num_scored": 0, "num_failed": 5},
            },
        },
    }
    to = console()
    to.print(terminal.scores_table(scores))
    lines = [" ".join(line.split()) for line in shown(to).splitlines()]
    assert lines == [
        "Scoring Result 95 % interval n Failed",
        "basic::equality accuracy 75.0 % 30.0 to 95.4 4 1",
        "llm-as-judge::base average 7.123 – 1 0",
        "llm-as-judge::base categorical_count A: 3, B: 1 – 4 0",
        "llm-as-judge::base median – – 0 5",
    ]


def test_names_in_a_table_are_not_markup_and_are_not_cut() -> None:
    to = Console(file=io.StringIO(), width=30, highlight=False)
    table = terminal.table("Name", "Rows", numbers=("Rows",))
    name = "[red]" + "x" * 60
    table.add_row(terminal.cell(name), "1")
    to.print(table)
    assert "".join(line.split(" ")[0] for line in shown(to).splitlines()[1:]) == name


def test_watching_returns_the_last_record_and_every_point() -> None:
    updates = [
        update("scheduled"),
        update("in_progress", 1, 4, {"step": 1, "loss": 2.0}),
        update("completed", 4, 4, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}),
    ]
    for to in (console(), console(force_terminal=True)):
        job, points = terminal.watch(updates, to, "training")
        assert job["status"] == "completed"
        assert [point["step"] for point in points] == [1, 2, 3]


def test_without_a_terminal_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PLAIN_EVERY_SECONDS", 0.0)
    to = console()
    updates = [update("scheduled"), update("in_progress", 3, 9, {"step": 3, "loss": 0.25}), update("in_progress", 4)]
    terminal.watch(updates, to, "training")
    assert shown(to).splitlines() == ["training  3/9 steps  loss 0.25", "training  4 steps  loss 0.25"]


def test_on_a_terminal_there_is_a_bar_that_leaves_nothing_behind() -> None:
    to = console(force_terminal=True)
    terminal.watch([update("in_progress", 3, 9, {"step": 3, "loss": 0.25})], to, "training")
    assert "3/9" in shown(to)
    assert "loss 0.25" in shown(to)
    assert shown(to).endswith("\x1b[2K")  # the bar's line is wiped


def test_an_error_is_told_once_with_its_places() -> None:
    one = ClientError("no such dataset", status=400, errors=(FieldError("/dataset_id", "no such dataset"),))
    assert terminal.explain(one) == "no such dataset (/dataset_id)"
    joined = (FieldError("/a", "Field required"), FieldError("/b/0", "must be greater than 0"))
    several = ClientError("/a: Field required; /b/0: must be greater than 0", status=400, errors=joined)
    assert terminal.explain(several).splitlines() == [
        "The server refused the request:",
        "  /a: Field required",
        "  /b/0: must be greater than 0",
    ]
    other = ClientError("The rows cannot be taken.", status=400, errors=(FieldError("/rows/3", "is not an object"),))
    assert terminal.explain(other).splitlines() == ["The rows cannot be taken.", "  /rows/3: is not an object"]
    assert terminal.explain(ClientError("There is no dataset x.", status=404)) == "There is no dataset x."


def test_piped_lines_are_as_long_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = terminal.table("Name")
    table.add_row("x" * 300)
    terminal.out().print(table)
    assert "x" * 300 in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "100")
    terminal.out().print(table)
    assert "x" * 101 not in capsys.readouterr().out

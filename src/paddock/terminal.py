"""How things look in a terminal: tables, scores, a job that is being followed. Shared by the commands and the
quickstart; knows no server and no operation.

Where the output is not a terminal, a job's progress is printed as plain lines, a few a minute.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from paddock.client import ClientError, JobUpdate

_FREE_WIDTH = 1000
_PLAIN_EVERY_SECONDS = 10.0
_MAX_BARS = 20
_BAR_WIDTH = 24
_SPARKS = "▁▂▃▄▅▆▇█"


def out() -> Console:
    """The console on standard output. Where that is no terminal lines are as long as they are, for `grep` and `awk`."""
    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_FREE_WIDTH if is_free else None)


def err() -> Console:
    """The console on standard error: progress and remarks, so that standard output can be piped."""
    return Console(stderr=True, highlight=False)


def as_json(value: Any) -> str:
    """An answer as JSON, for scripts and files."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def print_json(value: Any) -> None:
    """Print an answer as JSON, in ASCII where standard output takes no other characters."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(as_json(value) if is_unicode else json.dumps(value, indent=2) + "\n")


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `numbers` are aligned to the right. Long words fold, nothing is cut off."""
    empty = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        empty.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return empty


def cell(value: Any) -> Text:
    """A value as a table shows it: None as nothing, and no word of it taken for markup."""
    return Text("" if value is None else str(value))


def explain(error: ClientError) -> str:
    """An error as a person reads it: what is wrong, then where in the request."""
    places = [f"  {field.pointer or '(body)'}: {field.message}" for field in error.errors]
    if len(error.errors) == 1 and error.errors[0].message == error.detail:
        return f"{error.detail} ({error.errors[0].pointer or 'body'})"
    if error.errors and all(field.message in error.detail for field in error.errors):
        return "\n".join(["The server refused the request:", *places])
    return "\n".join([error.detail, *places])


# ---------------------------------------------------------------------------------------------------- scores


def percent(share: float | None, digits: int = 1) -> str:
    """A share between 0 and 1 in percent."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def scores_table(scores: dict[str, Any]) -> Table:
    """The aggregated results of an `EvaluateResponse`, one line for each scoring function and aggregation."""
    shown = table(
        "Scoring", "Result", "95 % interval", "n", "Failed", numbers=("Result", "95 % interval", "n", "Failed")
    )
    for function, result in scores.items():
        for aggregation, values in result["aggregated_results"].items():
            value = values.get(aggregation)
            as_percent = aggregation in ("accuracy", "corrected")
            shown.add_row(
                cell(function),
                Text(f"{aggregation} ").append(_result(value, as_percent=as_percent), style="bold"),
                interval(values.get("ci95"), as_percent=as_percent),
                cell(values.get("num_scored")),
                cell(values.get("num_failed")),
            )
    return shown


def score_counts(scores: dict[str, Any]) -> Table:
    """How often each score came, as bars: for each scoring function its most frequent scores, and the failed rows."""
    shown = table("Scoring", "Score", "Rows", "", numbers=("Score", "Rows"))
    for function, result in scores.items():
        counts = Counter("failed" if row["score"] is None else f"{row['score']}" for row in result["score_rows"])
        most = max(counts.values(), default=0)
        found = counts.most_common(_MAX_BARS)
        for score, count in sorted(found, key=lambda pair: _numerically(pair[0])):
            shown.add_row(cell(function), cell(score), f"{count:,}", "█" * max(1, round(_BAR_WIDTH * count / most)))
        if len(counts) > len(found):
            others = counts.total() - sum(count for _, count in found)
            shown.add_row(cell(function), f"{len(counts) - len(found)} others", f"{others:,}", "")
    return shown


def _numerically(text: str) -> tuple[float, str]:
    """The order of scores: numbers by value, then words."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text


def interval(ci95: list[float] | None, *, as_percent: bool) -> str:
    """A confidence interval in words; there is none for fewer than two scores."""
    if ci95 is None:
        return "–"
    low, high = ci95
    return f"{100 * low:.1f} to {100 * high:.1f}" if as_percent else f"{low:.3g} to {high:.3g}"


def _result(value: Any, *, as_percent: bool) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {number}" for key, number in value.items())
    return percent(value) if as_percent else f"{value:.4g}"


def sparkline(values: list[float], width: int = 32) -> str:
    """A curve in one line of text: each sign the mean of its share of the values."""
    if not values:
        return ""
    width = min(width, len(values))
    bounds = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((mean - low) * scale)] for mean in means)


# ---------------------------------------------------------------------------------------------------- jobs


def duration(seconds: float) -> str:
    """Seconds as a person says them: `3.2 s`, `48 s`, `2 min 05 s`, `1 h 04 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def progress_text(progress: dict[str, Any] | None) -> str:
    """How far a job is, in its own unit; nothing as long as it has said nothing."""
    if progress is None:
        return ""
    of = "" if progress["total"] is None else f"/{progress['total']}"
    return f"{progress['done']}{of} {progress['unit']}"


@contextlib.contextmanager
def counting(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal, for work of `total` steps; it is told how many are done."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def watch(updates: Iterable[JobUpdate], console: Console, label: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Show a job until it has ended. Returns its final record and all points of its metrics."""
    return _watch_live(updates, console, label) if console.is_terminal else _watch_plain(updates, console, label)


def _watch_live(
    updates: Iterable[JobUpdate], console: Console, label: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    points: list[dict[str, Any]] = []
    job: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[remark]}", style="dim"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task: TaskID = progress.add_task(label, total=None, count="", remark="")
        for update in updates:
            job = update.job
            points += update.points
            done = job["progress"] or {"done": 0, "total": None}
            progress.update(
                task,
                completed=done["done"],
                total=done["total"],
                count=progress_text(job["progress"]),
                remark=_remark(job, points),
            )
    return job, points


def _watch_plain(
    updates: Iterable[JobUpdate], console: Console, label: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    points: list[dict[str, Any]] = []
    job: dict[str, Any] = {}
    printed_at = time.monotonic()
    for update in updates:
        job = update.job
        points += update.points
        if job["progress"] is not None and time.monotonic() - printed_at >= _PLAIN_EVERY_SECONDS:
            console.print(f"{label}  {progress_text(job['progress'])}  {_remark(job, points)}".rstrip())
            printed_at = time.monotonic()
    return job, points


def _remark(job: dict[str, Any], points: list[dict[str, Any]]) -> str:
    if job["status"] == "scheduled":
        return "waits for its turn"
    if job["progress"] is None:
        return "starts"
    loss = points[-1].get("loss") if points else None
    return "" if loss is None else f"loss {loss:.4g}"

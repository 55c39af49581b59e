"""How comparisons of evaluations look in a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from paddock import terminal


def shown_as_table(comparisons: list[dict[str, Any]]) -> Table:
    """Comparisons of jobs with a baseline, a line each."""
    columns = ("Baseline", "Model", "Difference", "95 % interval", "p", "Adjusted", "n")
    shown = terminal.table("Scoring", *columns, numbers=columns)
    for found in comparisons:
        as_percent = found["test"] == "mcnemar"
        shown.add_row(
            terminal.cell(found["scoring_function"]),
            _named(found["baseline_model"], found["baseline_mean"], as_percent=as_percent),
            _named(found["model"], found["mean"], as_percent=as_percent),
            Text(_signed(found["difference"], as_percent=as_percent), style="bold"),
            terminal.interval(found["ci95"], as_percent=as_percent),
            _p_value(found["p_value"]),
            _p_value(found["adjusted_p_value"]),
            terminal.cell(found["num_compared"]),
        )
    return shown


def remarks(found: dict[str, Any], num_rows: int = 10) -> Text:
    """What stands behind a comparison, in sentences: where the two differ, what failed, what could have been seen."""
    lines = []
    if found["test"] == "mcnemar":
        lines.append(
            f"Only {found['model']} right: {found['num_only_right']} rows; only {found['baseline_model']} right: "
            f"{found['num_only_baseline_right']}."
        )
    if found["num_flipped"]:
        more = ", …" if found["num_flipped"] > num_rows else ""
        rows = ", ".join(str(row) for row in found["flipped_rows"][:num_rows])
        lines.append(f"Their scores differ on {found['num_flipped']} rows: {rows}{more}")
    if found["num_compared"] < found["num_total"]:
        lines.append(
            f"{found['num_total'] - found['num_compared']} of {found['num_total']} rows failed on either side."
        )
    if found["num_clusters"] is not None:
        lines.append(f"The rows come in {found['num_clusters']} clusters.")
    detectable = found["smallest_detectable_difference"]
    if detectable is not None:
        share = terminal.percent(detectable) if found["test"] == "mcnemar" else f"{detectable:.3g}"
        lines.append(
            f"A true difference of {share} would be seen four times out of five; a smaller one needs more rows."
        )
    return Text("\n".join(lines), style="dim")


def _named(model: str, mean: float | None, *, as_percent: bool) -> Text:
    shown = "–" if mean is None else terminal.percent(mean) if as_percent else f"{mean:.4g}"
    return Text(f"{model} {shown}")


def _signed(difference: float | None, *, as_percent: bool) -> str:
    if difference is None:
        return "–"
    return f"{100 * difference:+.1f} points" if as_percent else f"{difference:+.4g}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

"""`paddock scoring`: the functions that score answers, and scoring answers that are there already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from paddock import terminal
from paddock.cli import row_files
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, json_array, quoted
from paddock.evaluation.schemas import AggregationFunctionType
from paddock.evaluation.scoring.aggregation import Aggregator, Judged

_ROWS_AT_ONCE = 200
"""Rows in a request: far below the server's `max_evaluate_rows`, and enough to keep a judge busy."""


@click.group()
def scoring() -> None:
    """Scoring functions, and scores of answers that are there already."""


@scoring.command("list")
@speaks_to_server
@json_option
def list_(client: Client, as_json: bool) -> None:
    """List the scoring functions: Paddock's own, and those that were registered.

    Example: paddock scoring list"""
    answer = client.get("/v1/scoring-functions")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Scoring function", "What it does")
    for function in answer["data"]:
        table.add_row(terminal.cell(function["identifier"]), terminal.cell(function.get("description")))
    terminal.out().print(table)


@scoring.command()
@click.argument("function_id", metavar="FUNCTION")
@speaks_to_server
def show(client: Client, function_id: str) -> None:
    """Show one scoring function with its parameters, as JSON.

    Example: paddock scoring show llm-as-judge::base"""
    terminal.print_json(client.get(f"/v1/scoring-functions/{quoted(function_id)}"))


@scoring.command()
@click.argument("function_id", metavar="FUNCTION")
@click.option("--params", type=json_object, required=True, help="Its parameters; their `type` says what does the work.")
@click.option("--description", default="", help="What it does, for people.")
@click.option("--return-type", default="number", show_default=True, help="What its score is.")
@speaks_to_server
@json_option
def register(
    client: Client, function_id: str, params: dict[str, Any], description: str, return_type: str, as_json: bool
) -> None:
    """Keep a scoring function: one of Paddock's own, with other parameters.

    Example: paddock scoring register strict-judge --params '{"type": "llm_as_judge", "judge_model": "judge"}'"""
    body = {
        "scoring_fn_id": function_id,
        "description": description,
        "return_type": {"type": return_type},
        "params": params,
    }
    answer = client.post("/v1/scoring-functions", body)
    if as_json:
        terminal.print_json(answer)
        return
    click.echo(f"{function_id} is registered.")


@scoring.command()
@click.argument("function_id", metavar="FUNCTION")
@speaks_to_server
def delete(client: Client, function_id: str) -> None:
    """Delete a registered scoring function. One that a benchmark names stays.

    Example: paddock scoring delete strict-judge"""
    client.delete(f"/v1/scoring-functions/{quoted(function_id)}")
    click.echo(f"{function_id} is deleted.")


@scoring.command()
@click.argument("function_ids", metavar="FUNCTION...", nargs=-1, required=True)
@click.option("--dataset", "dataset_id", help="Score the rows of this dataset.")
@click.option(
    "--file", "file", type=row_files.ROW_FILE, help="Score the rows of a file here (.jsonl, .json, .csv, .parquet)."
)
@click.option("--params", type=json_object, help="Parameters by function: {FUNCTION: {…}}.")
@click.option("--num-examples", type=click.IntRange(min=1), help="Only so many rows, from the first on.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write rows with their scores here.")
@click.option("--visualize", is_flag=True, help="Show how often each score came.")
@speaks_to_server
@json_option
def run(
    client: Client,
    function_ids: tuple[str, ...],
    dataset_id: str | None,
    file: Path | None,
    params: dict[str, Any] | None,
    num_examples: int | None,
    output: Path | None,
    visualize: bool,
    as_json: bool,
) -> None:
    """Score rows that have their `generated_answer`, whatever gave it.

    \b
    Examples:
      paddock scoring run basic::equality --file answers.csv
      paddock scoring run basic::equality llm-as-judge::base --dataset answers --params params.json --output scored.jsonl"""
    if (file is None) == (dataset_id is None):
        raise click.UsageError("Give the rows by either --dataset or --file.")
    if unknown := set(params or {}) - set(function_ids):
        raise click.UsageError(f"--params has parameters for functions that are not run: {', '.join(sorted(unknown))}.")
    rows = islice(client.rows(dataset_id) if file is None else row_files.read_rows(file), num_examples)  # type: ignore[arg-type]
    chosen = {function_id: (params or {}).get(function_id) for function_id in function_ids}
    results = _score(client, rows, chosen, output)
    if as_json:
        terminal.print_json({"results": results})
        return
    terminal.out().print(terminal.scores_table(results))
    if visualize:
        terminal.out().print(terminal.score_counts(results))


def _score(client: Client, rows: Iterable[bytes], chosen: dict[str, Any], output: Path | None) -> dict[str, Any]:
    """`ScoringResult`s of any number of rows, scored some hundred at a time. What is written is written as it comes."""
    results: dict[str, Any] = {}
    written = None if output is None else output.open("w", encoding="utf-8")
    try:
        for chunk in _chunks(rows):
            rest = json.dumps({"scoring_functions": chosen}).encode()
            body = b'{"input_rows":' + json_array(chunk) + b"," + rest[1:]
            answer = client.post_bytes("/v1/scoring/score", body)["results"]
            for function_id, result in answer.items():
                first = results.setdefault(function_id, result)
                if first is not result:
                    first["score_rows"] += result["score_rows"]
            if written is not None:
                for index, row in enumerate(chunk):
                    scores = {function_id: result["score_rows"][index] for function_id, result in answer.items()}
                    written.write(f'{{"row": {row.decode()}, "scores": {json.dumps(scores, ensure_ascii=False)}}}\n')
    finally:
        if written is not None:
            written.close()
    if not results:
        raise click.ClickException("There are no rows.")
    for function_id, result in results.items():
        aggregated = result["aggregated_results"]
        functions = [AggregationFunctionType(name) for name in aggregated if name in set(AggregationFunctionType)]
        is_judged = any("if_failed" in values for values in aggregated.values())
        aggregator = Aggregator(functions, Judged(_score_range(chosen.get(function_id) or {})) if is_judged else None)
        for row in result["score_rows"]:
            aggregator.add(row)
        result["aggregated_results"] = aggregator.results()
    return results


def _score_range(params: dict[str, Any]) -> tuple[float, float] | None:
    """The range of a judge's scores, where its parameters tell it."""
    low, high = (0.0, 1.0) if params.get("pairwise") else params.get("score_range") or (None, None)
    return None if low is None or high is None else (low, high)


def _chunks(rows: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, _ROWS_AT_ONCE)):
        yield chunk

"""`paddock benchmarks`: a dataset and the functions that score answers to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paddock import terminal
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted
from paddock.suites import lm_eval, open_benchmark, suite
from paddock.suites.suite import Suite, SuiteError


@click.group()
def benchmarks() -> None:
    """Benchmarks: a dataset and the functions that score the answers to it."""


@benchmarks.command("list")
@speaks_to_server
@json_option
def list_(client: Client, as_json: bool) -> None:
    """List the benchmarks.

    Example: paddock benchmarks list"""
    answer = client.get("/v1alpha/eval/benchmarks")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Benchmark", "Dataset", "Scoring functions")
    for benchmark in answer["data"]:
        table.add_row(
            terminal.cell(benchmark["identifier"]),
            terminal.cell(benchmark["dataset_id"]),
            terminal.cell(", ".join(benchmark["scoring_functions"])),
        )
    terminal.out().print(table)


@benchmarks.command()
@click.argument("benchmark_id")
@speaks_to_server
def show(client: Client, benchmark_id: str) -> None:
    """Show one benchmark, as JSON.

    Example: paddock benchmarks show my-bench"""
    terminal.print_json(client.get(f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}"))


@benchmarks.command()
@click.argument("benchmark_id")
@click.option("--dataset", "dataset_id", required=True, help="The dataset with the questions and answers.")
@click.option("--scoring", multiple=True, required=True, help="A scoring function; may be given several times.")
@click.option("--metadata", type=json_object, help="Whatever you want to keep with it.")
@speaks_to_server
@json_option
def register(
    client: Client,
    benchmark_id: str,
    dataset_id: str,
    scoring: tuple[str, ...],
    metadata: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Make a benchmark. `paddock scoring list` lists the functions there are.

    Example: paddock benchmarks register my-bench --dataset my/exam --scoring basic::equality"""
    body = {
        "benchmark_id": benchmark_id,
        "dataset_id": dataset_id,
        "scoring_functions": list(scoring),
        "metadata": metadata,
    }
    answer = client.post("/v1alpha/eval/benchmarks", body)
    if as_json:
        terminal.print_json(answer)
        return
    click.echo(f"{benchmark_id} is registered.")


@benchmarks.command()
@click.argument("benchmark_id")
@speaks_to_server
def delete(client: Client, benchmark_id: str) -> None:
    """Delete a benchmark; its dataset stays.

    Example: paddock benchmarks delete my-bench"""
    client.delete(f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}")
    click.echo(f"{benchmark_id} is deleted.")


@benchmarks.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "benchmark_id", help="The benchmark's id (default: the name of the task).")
@click.option(
    "--fewshot-seed", type=int, default=lm_eval.FEWSHOT_SEED, show_default=True, help="What examples are drawn with."
)
@click.option(
    "--only", multiple=True, help="Of a Llama Stack configuration this benchmark; may be given several times."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be registered, and what cannot be carried.")
@speaks_to_server
@json_option
def import_(
    client: Client,
    file: Path,
    benchmark_id: str | None,
    fewshot_seed: int,
    only: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make benchmarks of a YAML file, and say what of it could not be carried: of a task of lm-evaluation-harness, or of a
    Llama Stack configuration with open benchmarks.

    Nothing in the file is executed. Rows are read from files beside a task, or by the server from where the file says.

    \b
    Examples:
      paddock benchmarks import arc_easy.yaml
      paddock benchmarks import my_task.yaml --id my/task --dry-run
      paddock benchmarks import run.yaml --only meta-reference-math-500"""
    try:
        if open_benchmark.is_one(file):
            if benchmark_id is not None:
                raise click.UsageError("--id is for a single task: this file names its benchmarks itself.")
            found = open_benchmark.load(file, client, only=only)
        elif only:
            raise click.UsageError("--only is for a Llama Stack configuration: this file is a single task.")
        else:
            found = lm_eval.load(file, client, benchmark_id=benchmark_id, fewshot_seed=fewshot_seed)
    except SuiteError as error:
        raise click.ClickException(f"{file.name} is not imported. {error.detail}") from None
    if not dry_run:
        suite.register(client, found)
    if as_json:
        terminal.print_json(_report(found))
        return
    for benchmark in found.benchmarks:
        dataset_id, functions = benchmark["dataset_id"], ", ".join(benchmark["scoring_functions"])
        holds = f" of {len(found.rows[dataset_id]):,} rows" if dataset_id in found.rows else ""
        would_be = "would be" if dry_run else "is"
        click.echo(f"{benchmark['benchmark_id']} {would_be} on the dataset {dataset_id}{holds}, scored by {functions}.")
    for note in found.notes:
        click.echo(f"Not carried: {note.key}. {note.reason}")


def _report(found: Suite) -> dict[str, Any]:
    """What is registered, but for rows, and what is not carried."""
    return {
        "datasets": [
            dataset | {"num_rows": len(found.rows[dataset["dataset_id"]])}
            if dataset["dataset_id"] in found.rows
            else dataset
            for dataset in found.datasets
        ],
        "scoring_functions": found.scoring_functions,
        "benchmarks": found.benchmarks,
        "not_carried": [note._asdict() for note in found.notes],
    }

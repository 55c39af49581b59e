"""`paddock benchmarks`: a dataset and the functions that score answers to it."""

from __future__ import annotations

from typing import Any

import click

from paddock import terminal
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted


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

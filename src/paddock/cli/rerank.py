"""`paddock rerank`: passages in the order of their relevance to a query."""

from __future__ import annotations

import click

from paddock import terminal
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client


@click.command()
@click.option("--model", required=True, help="A model of type rerank, or an embedding model.")
@click.option("--query", required=True, help="What the passages should be relevant to.")
@click.option("--top", "max_num_results", type=click.IntRange(min=1), help="Show so many passages only.")
@click.argument("items", nargs=-1, required=True)
@speaks_to_server
@json_option
def rerank(
    client: Client, model: str, query: str, max_num_results: int | None, items: tuple[str, ...], as_json: bool
) -> None:
    """Order ITEMS by their relevance to a query, the most relevant first.

    Example: paddock rerank --model minilm --query "capital of France" "Paris is lovely." "A horse eats hay."
    """
    body = {"model": model, "query": query, "items": list(items), "max_num_results": max_num_results}
    answer = client.post("/v1alpha/inference/rerank", body)
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Relevance", "Item", "Passage", numbers=("Relevance", "Item"))
    for result in answer["data"]:
        table.add_row(f"{result['relevance_score']:.4f}", str(result["index"]), terminal.cell(items[result["index"]]))
    terminal.out().print(table)

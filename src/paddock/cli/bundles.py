"""`paddock eval export` and `paddock eval rescore`: a result with all that it was derived from, and derived again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paddock import terminal, wire
from paddock.cli.json_values import json_object
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, quoted
from paddock.errors import PaddockError


@click.command()
@click.argument("job_id", metavar="JOB")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@speaks_to_server
def export(client: Client, job_id: str, file: Path) -> None:
    """Write all that an evaluation's result was derived from to a file: rows, answers, verdicts, parameters, versions.

    Example: paddock eval export 4f1c… exam.zip"""
    num_bytes = client.download(f"/v1alpha/eval/bundles/{quoted(job_id)}", file)
    click.echo(f"{file}: {num_bytes} bytes. Derive its result again: paddock eval rescore {file}")


@click.command()
@click.argument("file", metavar="BUNDLE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--scoring-function",
    "function_ids",
    multiple=True,
    help="Score the answers by this function instead; may be given several times.",
)
@click.option(
    "--scoring-params",
    type=json_object,
    help="Parameters by function, as in requests: a JSON object, or a file with one.",
)
@json_option
def rescore(file: Path, function_ids: tuple[str, ...], scoring_params: dict[str, Any] | None, as_json: bool) -> None:
    """Derive a result again from its bundle, without a server and without asking a model: the same, byte for byte.

    \b
    Examples:
      paddock eval rescore exam.zip
      paddock eval rescore exam.zip --scoring-function text::f1 --json"""
    from paddock.evaluation import bundle
    from paddock.evaluation import rescore as rescoring

    if scoring_params and not function_ids:
        raise click.UsageError("--scoring-params are those of a --scoring-function.")
    try:
        source = bundle.read(file)
        if function_ids:
            found = rescoring.score_by(source, list(dict.fromkeys(function_ids)), scoring_params or {})
            is_same = True
        else:
            found = rescoring.rescore(source)
            is_same = wire.to_json(found) == source.text(bundle.AGGREGATES)
    except PaddockError as error:
        raise click.ClickException(error.detail) from None
    if as_json:
        click.echo(wire.to_json(found))
    else:
        shown = {function_id: {"aggregated_results": results} for function_id, results in found.items()}
        terminal.out().print(terminal.scores_table(shown))
    if not is_same:
        versions = source.manifest.get("versions")
        raise click.ClickException(
            f"This is not the result that was exported, with these versions: {wire.to_json(versions)}"
        )
    if not function_ids and not as_json:
        click.echo("The same, byte for byte, as when it was exported.")

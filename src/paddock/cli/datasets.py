"""`paddock datasets`: rows to train and to judge with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self, TextIO

import click

from paddock import terminal
from paddock.cli import row_export, row_files
from paddock.cli.json_values import json_object
from paddock.cli.options import follow_job, follow_option, json_option, speaks_to_server
from paddock.client import Client, ClientError, chunks, json_array, quoted
from paddock.datasets.rows import SourceError

PURPOSES = ("post-training/messages", "eval/question-answer", "eval/messages-answer")

_SHOWN_ROWS = 3
_SHOWN_UNREADABLE = 20


@click.group()
def datasets() -> None:
    """Rows to train and to judge with: list, show, register, import, append, export."""


@datasets.command("list")
@speaks_to_server
@json_option
def list_(client: Client, as_json: bool) -> None:
    """List the datasets.

    Example: paddock datasets list"""
    answer = client.get("/v1beta/datasets")
    if as_json:
        terminal.print_json(answer)
        return
    table = terminal.table("Dataset", "Purpose", "Rows", "Source", numbers=("Rows",))
    for dataset in answer["data"]:
        num_rows = dataset["metadata"].get("num_rows")
        table.add_row(
            terminal.cell(dataset["identifier"]),
            dataset["purpose"],
            "" if num_rows is None else f"{num_rows:,}",
            terminal.cell(dataset["source"].get("uri", "rows")),
        )
    terminal.out().print(table)


@datasets.command()
@click.argument("dataset_id")
@click.option("--overlap-with", help="Another dataset: which rows here ask what a row there asks?")
@click.option("--tokenizer", help="A local model: how long are the fields in its tokens?")
@speaks_to_server
@json_option
def show(client: Client, dataset_id: str, overlap_with: str | None, tokenizer: str | None, as_json: bool) -> None:
    """Show one dataset: its purpose, its metadata, its first rows, its fields, and what is odd about its rows.

    \b
    Examples:
      paddock datasets show my/train
      paddock datasets show my/train --overlap-with my/exam
      paddock datasets show my/train --tokenizer my/model"""
    path = f"/v1beta/datasets/{quoted(dataset_id)}"
    if as_json:
        click.echo(client.get_bytes(path))  # as it came: the digits of its rows, too
        return
    dataset = client.get(path)
    console = terminal.out()
    table = terminal.table("Dataset", dataset_id)
    table.add_row("purpose", dataset["purpose"])
    table.add_row("source", terminal.cell(dataset["source"].get("uri", "rows")))
    for name, value in dataset["metadata"].items():
        table.add_row(terminal.cell(name), terminal.cell(value if isinstance(value, str) else json.dumps(value)))
    console.print(table)
    for row in client.rows(dataset_id, limit=_SHOWN_ROWS):
        click.echo(row)
    _show_profile(_profile(client, dataset_id, overlap_with, tokenizer))


def _profile(client: Client, dataset_id: str, overlap_with: str | None, tokenizer: str | None) -> Any:
    """What is known of all rows; the server looks at some more each time it is asked."""
    console = terminal.err()
    while True:
        profile = client.get(
            f"/v1beta/dataset-profiles/{quoted(dataset_id)}", overlap_with=overlap_with, tokenizer=tokenizer
        )
        is_whole = profile["duplicates"] is not None and (overlap_with is None or profile["overlap"] is not None)
        if is_whole and (tokenizer is None or profile["tokens"]["as_of_row"] >= profile["num_rows"]):
            return profile
        if console.is_terminal:
            console.print(f"{profile['as_of_row']:,}/{profile['num_rows']:,} rows looked at", end="\r")


def _show_profile(profile: dict[str, Any]) -> None:
    tokens = None if profile["tokens"] is None else profile["tokens"]["fields"]
    columns = ("Field", "Types", "Null", "Absent", "Distinct", "Characters", *(() if tokens is None else ("Tokens",)))
    table = terminal.table(*columns, numbers=("Null", "Absent"))
    for name, field in profile["fields"].items():
        table.add_row(
            terminal.cell(name),
            ", ".join(f"{kind} {count:,}" for kind, count in field["types"].items()),
            f"{field['num_null']:,}",
            f"{field['num_absent']:,}",
            f"{'' if field['num_distinct_is_exact'] else 'about '}{field['num_distinct']:,}",
            _lengths(field["characters"]),
            *(() if tokens is None else (_lengths(tokens.get(name)),)),
        )
    terminal.out().print(table)
    for row in profile["incomplete_rows"][:_SHOWN_ROWS]:
        click.echo(f"Row {row['row']} lacks `{row['lacks']}`.")
    _show_pairs(profile["duplicates"], "equal to an earlier one", "equals")
    if profile["overlap"] is not None:
        _show_pairs(profile["overlap"], f"asked in {profile['overlap']['dataset_id']} too", "other_row")


def _lengths(found: dict[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return ""
    return f"{found['min']:,} to {found['max']:,}, mean {found['mean']:,.0f}"


def _show_pairs(found: dict[str, Any], what: str, other: str) -> None:
    if found["num_rows"]:
        first = ", ".join(f"{pair['row']} as {pair[other]}" for pair in found["rows"][:_SHOWN_ROWS])
        click.echo(f"{found['num_rows']:,} rows are {what}: {first}{', …' if found['num_rows'] > _SHOWN_ROWS else ''}")


@datasets.command()
@click.argument("dataset_id")
@click.option("--purpose", type=click.Choice(PURPOSES), required=True, help="What the rows are for.")
@click.option(
    "--file", "file", type=row_files.ROW_FILE, help="A file here (.jsonl, .json, .csv, .parquet); its rows are sent."
)
@click.option("--uri", help="Where the server reads the rows: file:, data:, https:, as its settings allow.")
@click.option("--metadata", type=json_object, help="Whatever you want to keep with it.")
@speaks_to_server
@follow_option
@json_option
def register(
    client: Client,
    dataset_id: str,
    purpose: str,
    file: Path | None,
    uri: str | None,
    metadata: dict[str, Any] | None,
    follows: bool,
    as_json: bool,
) -> None:
    """Make a dataset from a file here, or from where the server can read it: a long source is read by a job.

    Done twice with the same file it changes nothing; broken off, it goes on where it was.

    \b
    Examples:
      paddock datasets register my/train --purpose post-training/messages --file train.jsonl
      paddock datasets register my/exam --purpose eval/question-answer --uri file:///data/exam.jsonl"""
    if (file is None) == (uri is None):
        raise click.UsageError("Give the rows by either --file or --uri.")
    if uri is not None:
        source = {"type": "uri", "uri": uri}
        body = {"dataset_id": dataset_id, "purpose": purpose, "source": source, "metadata": metadata or {}}
        dataset = client.post("/v1beta/datasets", body)
        if follows and dataset["metadata"]["state"] == "reading":
            follow_job(client, dataset["metadata"]["ingest_job_id"], f"reading {dataset_id}")
            dataset = client.get(f"/v1beta/datasets/{quoted(dataset_id)}")
    else:
        assert file is not None
        dataset = _register_file(client, dataset_id, purpose, row_files.check(file), metadata or {})
    if as_json:
        terminal.print_json(dataset)
        return
    goes_on = " More are being read." if dataset["metadata"]["state"] == "reading" else ""
    click.echo(f"{dataset_id} holds {_num_rows(dataset):,} rows.{goes_on}{_lacking(dataset)}")


def _lacking(dataset: dict[str, Any]) -> str:
    """A sentence about rows that lack what the purpose needs, which registration takes and jobs refuse."""
    num_incomplete = dataset["metadata"]["num_incomplete_rows"]
    if not num_incomplete:
        return ""
    first = dataset["metadata"]["first_incomplete_row"]
    return (
        f" {num_incomplete:,} of them lack what {dataset['purpose']} needs (the first is row {first}): no job takes it."
    )


@datasets.command("import")
@click.argument("dataset_id")
@click.argument("file", type=row_files.ROW_FILE)
@click.option("--purpose", type=click.Choice(PURPOSES), required=True, help="What the rows are for.")
@click.option("--metadata", type=json_object, help="Whatever you want to keep with it.")
@click.option("--skip-unreadable", is_flag=True, help="Take the rows that can be read, though there are others.")
@click.option(
    "--unreadable", type=click.Path(dir_okay=False, path_type=Path), help="Where to write which rows cannot be read."
)
@speaks_to_server
def import_(
    client: Client,
    dataset_id: str,
    file: Path,
    purpose: str,
    metadata: dict[str, Any] | None,
    skip_unreadable: bool,
    unreadable: Path | None,
) -> None:
    """Make a dataset of a file here, and say of every row that cannot be read on which line it stands and why.

    If there is one, nothing is sent, unless it is to be skipped. JSON lines, JSON, CSV, TSV, Parquet, Arrow and
    spreadsheets are read, each gzip or zstd too. Broken off, the same command goes on where it was.

    \b
    Examples:
      paddock datasets import my/train train.jsonl.gz --purpose post-training/messages
      paddock datasets import my/exam old.csv --purpose eval/question-answer --skip-unreadable --unreadable bad.txt"""
    with _UnreadableRows(unreadable) as wrong:
        checked = row_files.check(file, wrong.note)
    if wrong.count:
        click.echo(f"{wrong.count:,} rows of {file} cannot be read:", err=True)
        for message in wrong.first:
            click.echo(f"  {message}", err=True)
        if wrong.count > len(wrong.first):
            click.echo("  …" if unreadable is None else f"  … all are in {unreadable}", err=True)
        if not skip_unreadable:
            raise click.ClickException("Nothing was sent. Mend the file, or take the others with --skip-unreadable.")
    dataset = _register_file(client, dataset_id, purpose, checked, metadata or {})
    skipped = f" {wrong.count:,} were skipped." if wrong.count else ""
    click.echo(f"{dataset_id} holds {_num_rows(dataset):,} rows.{skipped}{_lacking(dataset)}")


class _UnreadableRows:
    """What is wrong with rows: counted, the first kept, and all of them written to a file where one is named."""

    def __init__(self, path: Path | None) -> None:
        self.count = 0
        self.first: list[str] = []
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, error: SourceError) -> None:
        self.count += 1
        message = error.detail.replace(" of the source", "", 1)
        if len(self.first) < _SHOWN_UNREADABLE:
            self.first.append(message)
        if self._file is not None:
            self._file.write(message + "\n")


def _register_file(
    client: Client, dataset_id: str, purpose: str, file: row_files.RowFile, metadata: dict[str, Any]
) -> Any:
    """Register a checked file's first rows, then append the others.

    The file's digest is part of the registration: the same file again is the same registration, and the rows that it
    already has are not sent twice."""
    first = next(chunks(_readable(file)), [])
    settings = {
        "dataset_id": dataset_id,
        "purpose": purpose,
        "metadata": metadata | {"file": file.path.name, "file_sha256": file.sha256, "file_rows": file.num_rows},
    }
    source = b'{"type":"rows","rows":' + json_array(first) + b"}"
    dataset = client.post_bytes("/v1beta/datasets", b'{"source":' + source + b"," + json.dumps(settings).encode()[1:])
    num_there = _num_rows(dataset)
    if num_there >= file.num_rows:
        return dataset
    _append(client, dataset_id, file, skip=num_there)
    return client.get(f"/v1beta/datasets/{quoted(dataset_id)}")


def _append(client: Client, dataset_id: str, file: row_files.RowFile, *, skip: int = 0) -> None:
    """Append a file's rows from `skip` on."""
    num_sent = skip
    try:
        with terminal.counting(f"{file.path.name} to {dataset_id}", file.num_rows) as show_done:
            for num_appended in client.append_rows(dataset_id, islice(_readable(file), skip, None)):
                num_sent = skip + num_appended
                show_done(num_sent)
    except ClientError as error:
        # Each chunk is durable by itself, so what was sent before stays.
        detail = f"{error.detail}\n{num_sent:,} of the file's {file.num_rows:,} rows are stored."
        raise ClientError(detail, status=error.status, errors=error.errors) from error


def _readable(file: row_files.RowFile) -> Iterator[bytes]:
    """The rows of a checked file, without those that were found to be unreadable."""
    return row_files.read_rows(file.path, on_unreadable=lambda _error: None)


def _num_rows(dataset: dict[str, Any]) -> int:
    num_rows: int = dataset["metadata"]["num_rows"]
    return num_rows


@datasets.command()
@click.argument("dataset_id")
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="Index of the first row.")
@click.option("--limit", type=click.IntRange(min=0), help="How many rows; all from there on where it is absent.")
@speaks_to_server
def rows(client: Client, dataset_id: str, start: int, limit: int | None) -> None:
    """Print rows as JSON Lines, exactly as they are stored.

    Example: paddock datasets rows my/train --start 100 --limit 5 > some.jsonl"""
    for row in client.rows(dataset_id, start=start, limit=limit):
        click.echo(row_export.one_line(row))


@datasets.command()
@click.argument("dataset_id")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@speaks_to_server
def export(client: Client, dataset_id: str, file: Path, force: bool) -> None:
    """Write all rows to a file: JSON lines as they are stored (.jsonl, .jsonl.gz, .jsonl.zst), or .parquet.

    \b
    Examples:
      paddock datasets export my/train train.jsonl.zst
      paddock datasets export my/exam exam.parquet"""
    row_export.check(file)
    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already: write over it with --force.")
    num_rows = _num_rows(client.get(f"/v1beta/datasets/{quoted(dataset_id)}"))
    with terminal.counting(f"{dataset_id} to {file.name}", num_rows) as show_done:

        def counted() -> Iterator[bytes]:
            for done, row in enumerate(client.rows(dataset_id, limit=num_rows), start=1):
                yield row
                if done % 1000 == 0:
                    show_done(done)

        as_json = row_export.write(file, counted())
    columns = f" As JSON, for no one type holds them: {', '.join(as_json)}." if as_json else ""
    click.echo(f"{file} holds {num_rows:,} rows of {dataset_id}.{columns}")


@datasets.command()
@click.argument("dataset_id")
@click.argument("file", type=row_files.ROW_FILE)
@speaks_to_server
def append(client: Client, dataset_id: str, file: Path) -> None:
    """Append the rows of a file (.jsonl, .json, .csv, .parquet).

    Example: paddock datasets append my/train more.jsonl"""
    checked = row_files.check(file)
    _append(client, dataset_id, checked)
    dataset = client.get(f"/v1beta/datasets/{quoted(dataset_id)}")
    click.echo(f"{checked.num_rows:,} rows appended. {dataset_id} holds {_num_rows(dataset):,}.{_lacking(dataset)}")


@datasets.command()
@click.argument("dataset_id")
@speaks_to_server
def delete(client: Client, dataset_id: str) -> None:
    """Delete a dataset and its rows. One that a benchmark or a running job names stays.

    Example: paddock datasets delete my/train"""
    client.delete(f"/v1beta/datasets/{quoted(dataset_id)}")
    click.echo(f"{dataset_id} is deleted.")

"""What an imported suite is made of, and how a server gets it: all of it or, if something is refused, none of what was not
there before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from paddock.client import Client, ClientError, chunks, json_array, quoted
from paddock.errors import InvalidRequestError

DATASETS, FUNCTIONS, BENCHMARKS = "/v1beta/datasets", "/v1/scoring-functions", "/v1alpha/eval/benchmarks"


class SuiteError(InvalidRequestError):
    """This suite cannot be imported, for the message's reason."""


class Note(NamedTuple):
    """A key of the suite that is not carried over, or not as it was, and why."""

    key: str
    reason: str


@dataclass
class Suite:
    """What is registered: bodies of the routes of registration, and the rows of datasets that come along by themselves.
    `notes` is the report of what could not be carried."""

    datasets: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, Sequence[bytes]] = field(default_factory=dict)
    """Dataset id → its rows as JSON text, for those that have no source."""
    scoring_functions: list[dict[str, Any]] = field(default_factory=list)
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def note(self, key: str, reason: str) -> None:
        """Put into the report that a key is not carried."""
        self.notes.append(Note(key, reason))


def register(client: Client, suite: Suite) -> None:
    """Register a suite. The same again changes nothing. Raises `ClientError`, and takes back what this call has added."""
    with _taken_back_on_failure(client) as added:
        for dataset in suite.datasets:
            dataset_id = dataset["dataset_id"]
            added.remember(DATASETS, dataset_id)
            if dataset_id in suite.rows:
                _register_rows(client, dataset, suite.rows[dataset_id])
            else:
                client.post(DATASETS, dataset)
        for function in suite.scoring_functions:
            added.remember(FUNCTIONS, function["scoring_fn_id"])
            client.post(FUNCTIONS, function)
        for benchmark in suite.benchmarks:
            added.remember(BENCHMARKS, benchmark["benchmark_id"])
            client.post(BENCHMARKS, benchmark)


def _register_rows(client: Client, dataset: dict[str, Any], rows: Sequence[bytes]) -> None:
    """Register a dataset with its first rows, and append the others. The digest is part of the registration, so the same
    rows again are the same registration, and those that are there are not sent twice."""
    digest = hashlib.sha256(b"".join(row + b"\n" for row in rows)).hexdigest()
    metadata = dataset["metadata"] | {"rows_sha256": digest, "rows": len(rows)}
    body = json.dumps(dataset | {"metadata": metadata}).encode()
    source = b'{"type":"rows","rows":' + json_array(next(chunks(rows), [])) + b"}"
    registered = client.post_bytes(DATASETS, b'{"source":' + source + b"," + body[1:])
    num_there = registered["metadata"]["num_rows"]
    for _ in client.append_rows(dataset["dataset_id"], islice(rows, num_there, None)):
        pass


class _Added:
    """What is registered that was not there before."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._paths: list[str] = []

    def remember(self, collection: str, resource_id: str) -> None:
        path = f"{collection}/{quoted(resource_id)}"
        try:
            self._client.get(path)
        except ClientError as error:
            if error.status != 404:
                raise
            self._paths.append(path)

    def take_back(self) -> None:
        for path in reversed(self._paths):
            try:
                self._client.delete(path)
            except ClientError as error:
                if error.status != 404:  # it was the one that was refused
                    raise


@contextmanager
def _taken_back_on_failure(client: Client) -> Iterator[_Added]:
    added = _Added(client)
    try:
        yield added
    except BaseException:
        added.take_back()
        raise

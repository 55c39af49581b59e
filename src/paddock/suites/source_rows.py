"""The rows that a task is made of: from files beside it, or by way of the server from the Hugging Face hub."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from paddock import wire
from paddock.client import Client, ClientError, quoted
from paddock.datasets import formats
from paddock.datasets.rows import SourceError
from paddock.suites.suite import DATASETS, SuiteError

FILE_FORMATS = {"json": ("jsonl", "json"), "csv": ("csv",), "parquet": ("parquet",), "arrow": ("arrow",)}
"""What `dataset_path` may be where the rows are in files → the formats that are tried."""

_PURPOSE = "eval/question-answer"
_POLL_SECONDS = 0.5

Row = dict[str, Any]


def from_files(folder: Path, kind: str, data_files: Any, split: str) -> list[Row]:
    """The rows of a split, whose files lie below the task's folder. Raises `SuiteError`."""
    if isinstance(data_files, Mapping):
        if split not in data_files:
            raise SuiteError(f"`dataset_kwargs.data_files` has no split {split!r}.")
        data_files = data_files[split]
    elif split != "train":  # what the library calls files that no split is told of
        raise SuiteError(f"`dataset_kwargs.data_files` names no split {split!r}.")
    rows: list[Row] = []
    for name in data_files if isinstance(data_files, list) else [data_files]:
        if not isinstance(name, str):
            raise SuiteError("`dataset_kwargs.data_files` must name files.")
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise SuiteError(f"`dataset_kwargs.data_files` names {name!r}, which is not below the folder of the task.")
        rows += _read(path, kind)
    return rows


def _read(path: Path, kind: str) -> list[Row]:
    error: SourceError | None = None
    for name in FILE_FORMATS[kind]:
        try:
            with path.open("rb") as file:
                return [wire.from_json(text) for text in formats.read((name,), file, {}).texts]
        except SourceError as found:
            error = error or found
        except OSError as found:
            raise SuiteError(f"{path.name} cannot be read: {found.strerror}.") from None
    assert error is not None
    raise SuiteError(f"{path.name} cannot be read. {error.detail}")


def from_hub(client: Client, repository: str, name: str | None, kwargs: Mapping[str, Any], split: str) -> list[Row]:
    """The rows of a split on the hub, read by the server as any dataset is, into one that is removed again. Raises
    `ClientError`."""
    query = {"split": split} | ({} if name is None else {"name": name})
    query |= {key: str(value) for key, value in kwargs.items()}
    dataset_id = f"import-{uuid.uuid4().hex}"
    source = {"type": "uri", "uri": f"hf://datasets/{repository}?{urlencode(query)}"}
    body = {"dataset_id": dataset_id, "purpose": _PURPOSE, "source": source, "metadata": {}}
    path = f"{DATASETS}/{quoted(dataset_id)}"
    dataset = client.post(DATASETS, body)
    try:
        while dataset["metadata"]["state"] == "reading":
            time.sleep(_POLL_SECONDS)
            dataset = client.get(path)
        if dataset["metadata"]["state"] != "ready":
            raise ClientError(f"The server could not read {source['uri']}: {dataset['metadata'].get('error')}")
        return [wire.from_json(row.decode()) for row in client.rows(dataset_id)]
    finally:
        client.delete(path)

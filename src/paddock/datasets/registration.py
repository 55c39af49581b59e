"""Registering a dataset: a request, its source, and the store put together. For the route and for the configuration."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from paddock.datasets import bodies, delimited, rows, sources
from paddock.datasets.bodies import Registration
from paddock.datasets.delimited import ColumnTypes
from paddock.datasets.remote import LongSourceError
from paddock.datasets.rows import SourceRows
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore, NewDataset, StoredDataset
from paddock.errors import InvalidRequestError

_SHOWN_URI_CHARACTERS = 64 * 1024


def register(
    datasets: DatasetStore, access: Access, registration: Registration, *, replace: bool = False
) -> StoredDataset:
    """Keep what was asked for, and read its source: now, or by a job where that takes long. Without an id one is made up.

    Raises `InvalidRequestError` for a source that cannot be read, and `ConflictError` if there is another dataset under
    the id, unless it is to `replace` that."""
    uri = registration.uri
    column_types: ColumnTypes = {}
    source: AbstractContextManager[SourceRows] = nullcontext(SourceRows(registration.texts))
    if uri is not None:
        column_types = _column_types(registration)
        source = sources.open_small(uri, access, column_types)
    new = NewDataset(
        dataset_id=registration.dataset_id or f"dataset-{uuid.uuid4().hex}",
        purpose=registration.purpose,
        source_type="rows" if uri is None else "uri",
        uri=None if uri is None else _shown(uri),
        metadata_json=registration.metadata_json,
        registration_digest=registration.digest,
    )
    try:
        dataset = datasets.register(new, source, replace=replace)
    except LongSourceError:
        dataset = None
    if dataset is None or dataset.state not in ("ready", "reading"):
        request = {"dataset_id": new.dataset_id, "uri": uri, "column_types": column_types}
        dataset = datasets.register_later(new, request, replace=replace)
    return dataset


def _column_types(registration: Registration) -> ColumnTypes:
    """What the metadata declare a CSV's columns as."""
    metadata = rows.parse(registration.metadata_json)
    try:
        return delimited.check_column_types(metadata.get("column_types", {}))
    except ValueError as error:
        raise InvalidRequestError(f"`column_types` {error}.", pointer="/metadata/column_types") from None


def register_entry(
    datasets: DatasetStore, access: Access, entry: Mapping[str, Any], *, replace: bool = False
) -> StoredDataset:
    """Keep the dataset of a configuration entry, which has the shape of `register_dataset`'s body.

    Raises as `register` does, and `InvalidRequestError` for an entry without `dataset_id`: each start would add one."""
    try:
        # YAML reads an unquoted 2024-01-31 as a date; `str` gives the text back.
        body = json.dumps(entry, ensure_ascii=False, allow_nan=False, default=str).encode()
    except ValueError as error:  # NaN, and what is not Unicode
        raise InvalidRequestError(f"A dataset's entry cannot be written as JSON: {error}", pointer="") from None
    registration = bodies.parse_registration(body)
    if registration.dataset_id is None:
        raise InvalidRequestError("A dataset's entry needs its `dataset_id`.", pointer="/dataset_id")
    return register(datasets, access, registration, replace=replace)


def _shown(uri: str) -> str:
    """The URI to be kept and shown. The rows are read once, so that a `data:` URI of megabytes need not stay."""
    return uri if len(uri) <= _SHOWN_URI_CHARACTERS else uri[:_SHOWN_URI_CHARACTERS] + "…"

"""Registering a dataset: a request, its source, and the store put together. For the route and for the configuration."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from paddock.datasets import bodies, sources
from paddock.datasets.bodies import Registration
from paddock.datasets.rows import SourceRows
from paddock.datasets.store import DatasetStore, NewDataset, StoredDataset
from paddock.errors import InvalidRequestError

_SHOWN_URI_CHARACTERS = 64 * 1024


def register(
    datasets: DatasetStore, roots: Sequence[Path], registration: Registration, *, replace: bool = False
) -> StoredDataset:
    """Keep what was asked for; `roots` are the folders that `file:` sources may read. Without an id one is made up.

    Raises `InvalidRequestError` for a source that cannot be read, and `ConflictError` if there is another dataset under
    the id, unless it is to `replace` that."""
    uri = registration.uri
    source: AbstractContextManager[SourceRows]
    source = nullcontext(SourceRows(registration.texts)) if uri is None else sources.open_source(uri, roots)
    new = NewDataset(
        dataset_id=registration.dataset_id or f"dataset-{uuid.uuid4().hex}",
        purpose=registration.purpose,
        source_type="rows" if uri is None else "uri",
        uri=None if uri is None else _shown(uri),
        metadata_json=registration.metadata_json,
        registration_digest=registration.digest,
    )
    return datasets.register(new, source, replace=replace)


def register_entry(
    datasets: DatasetStore, roots: Sequence[Path], entry: Mapping[str, Any], *, replace: bool = False
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
    return register(datasets, roots, registration, replace=replace)


def _shown(uri: str) -> str:
    """The URI to be kept and shown. The rows are read once, so that a `data:` URI of megabytes need not stay."""
    return uri if len(uri) <= _SHOWN_URI_CHARACTERS else uri[:_SHOWN_URI_CHARACTERS] + "…"

"""Datasets over HTTP. Answers that hold rows are joined from their stored text, so that no digit of them is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from paddock import routing
from paddock.datasets import bodies, registration, rows, schemas
from paddock.datasets.append_store import Append
from paddock.datasets.schemas import AppendRowsRequest, ListDatasetsResponse, PaginatedResponse, RegisterDatasetRequest
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore, StoredDataset
from paddock.errors import InvalidRequestError
from paddock.routing import PathId
from paddock.settings import Settings

router = routing.router()

PROVIDER_ID = "paddock"
_ITERROWS = "/v1beta/datasetio/iterrows"

_PROFILE_SECONDS = 1.5


Datasets = Annotated[DatasetStore, routing.held("datasets")]
TheSettings = Annotated[Settings, routing.held("settings")]


@router.post(
    "/v1beta/datasetio/append-rows/{dataset_id:path}",
    tags=["Datasetio"],
    response_model=None,
    openapi_extra=routing.raw_body(AppendRowsRequest),
)
@routing.direct
async def append_rows(request: Request, dataset_id: PathId) -> Response:
    """Append rows to a dataset."""
    datasets: DatasetStore = request.app.state.datasets
    key = await routing.idempotency_key(request)
    body = await request.body()
    texts = await routing.parsed(body, bodies.parse_rows, dataset_id)
    num_rows = await asyncio.wrap_future(datasets.appends.submit(Append(dataset_id, texts, key, body)))
    routing.count_rows(request, "append", num_rows)
    return _json(b"null")


@router.get(
    _ITERROWS + "/{dataset_id:path}",
    tags=["Datasetio"],
    response_model=PaginatedResponse,
    response_description="A PaginatedResponse.",
)
def iterrows(
    request: Request,
    datasets: Datasets,
    dataset_id: PathId,
    limit: int | None = None,
    start_index: int | None = None,
) -> Response:
    """Get a paginated list of rows from a dataset.

    Uses offset-based pagination where:
    - start_index: The starting index (0-based). If None, starts from beginning.
    - limit: Number of items to return. If None or -1, returns all items.

    The response includes:
    - data: List of items for the current page.
    - has_more: Whether there are more items available after this set.
    """
    start = 0 if start_index is None else start_index
    if start < 0:
        raise InvalidRequestError("`start_index` counts from 0: it cannot be negative.", pointer="start_index")
    if limit is not None and limit < -1:
        raise InvalidRequestError("`limit` is a number of rows, or -1 for all of them.", pointer="limit")
    version = datasets.version(datasets.get(dataset_id))
    end = version.num_rows if limit in (None, -1) else min(version.num_rows, start + limit)
    has_more = end < version.num_rows
    # The page after an empty one would be the same again.
    url = f"{_ITERROWS}/{quote(dataset_id)}?start_index={end}&limit={limit}" if start < end and has_more else None
    lots = datasets.rows.texts(version, start, max(0, end - start))
    first = next(lots, ())
    routing.count_rows(request, "read", max(0, end - start))
    if start + len(first) >= end:
        return _json("".join(_page([first], has_more, url)))
    return StreamingResponse(_page(chain([first], lots), has_more, url), media_type="application/json")


def _page(lots: Iterable[Sequence[str]], has_more: bool, url: str | None) -> Iterator[str]:
    """A `PaginatedResponse` as JSON text, lot by lot."""
    separator = '{"data":['
    for texts in lots:
        yield separator + ",".join(texts)
        separator = ","
    yield f'],"has_more":{"true" if has_more else "false"},"url":{msgspec.json.encode(url).decode()}}}'


@router.get(
    "/v1beta/datasets",
    tags=["Datasets"],
    response_model=ListDatasetsResponse,
    response_description="A ListDatasetsResponse.",
)
def list_datasets(datasets: Datasets) -> Response:
    """List all datasets."""
    first_rows = datasets.rows.first_rows()
    shown = [
        _shown(dataset, [first_rows[dataset.generation]] if dataset.generation in first_rows else [])
        for dataset in datasets.list()
    ]
    return _json(msgspec.json.encode({"data": shown}))


@router.get(
    "/v1beta/datasets/{dataset_id:path}",
    tags=["Datasets"],
    response_model=schemas.Dataset,
    response_description="A Dataset.",
)
def get_dataset(datasets: Datasets, dataset_id: PathId) -> Response:
    """Get a dataset by its ID."""
    return _dataset_answer(datasets, datasets.get(dataset_id))


@router.post(
    "/v1beta/datasets",
    tags=["Datasets"],
    response_model=schemas.Dataset,
    response_description="A Dataset.",
    openapi_extra=routing.EXTENSION | routing.raw_body(RegisterDatasetRequest),
)
async def register_dataset(request: Request, datasets: Datasets, settings: TheSettings) -> Response:
    """Register a dataset: its rows, or a URI that they are read from, now or, where that takes long, by a job; the
    metadata's `state` says which. The same again is fine."""
    parsed = await routing.parsed(await request.body(), bodies.parse_registration)

    def register() -> Response:
        return _dataset_answer(datasets, registration.register(datasets, Access.of(settings), parsed))

    return await run_in_threadpool(register)


@router.get(
    "/v1beta/dataset-profiles/{dataset_id:path}",
    tags=["Datasets"],
    response_model=schemas.DatasetProfile,
    openapi_extra=routing.EXTENSION,
)
def profile_dataset(
    request: Request,
    datasets: Datasets,
    dataset_id: PathId,
    overlap_with: str | None = None,
    tokenizer: Annotated[str | None, Query(description="A local model: lengths in its tokens are shown too")] = None,
) -> Response:
    """What is known of a dataset's rows: fields, types, lengths, rows that lack something, equal rows; where another
    dataset is named, which rows ask the same as one of its; and where a model is named, lengths in its tokens.

    Rows that came since the last time are looked at now, as many as a second or two allow: ask again until `as_of_row` is
    `num_rows`. Equal rows and overlaps are null until then."""
    dataset = datasets.get(dataset_id)
    profile = datasets.profiles.follow(datasets.version(dataset), dataset.purpose, seconds=_PROFILE_SECONDS)
    shown = {"dataset_id": dataset_id, "num_rows": dataset.num_rows, "num_bytes": dataset.num_bytes} | profile.shown()
    is_whole = profile.as_of_row == dataset.num_rows
    shown["duplicates"] = datasets.profiles.duplicates(dataset.generation) if is_whole else None
    shown["overlap"] = None
    if overlap_with is not None and is_whole:
        other = datasets.get_for(overlap_with, "overlap_with")
        theirs = datasets.profiles.follow(datasets.version(other), other.purpose, seconds=_PROFILE_SECONDS)
        if theirs.as_of_row == other.num_rows:
            overlap = datasets.profiles.overlap(dataset.generation, other.generation)
            shown["overlap"] = {"dataset_id": overlap_with, **overlap}
    shown["tokens"] = None
    if tokenizer is not None:
        tokenizer_file = request.app.state.inference.tokenizer_file(tokenizer)
        version = datasets.version(dataset)
        lengths = datasets.token_lengths.follow(version, tokenizer_file, seconds=_PROFILE_SECONDS)
        shown["tokens"] = {"tokenizer": tokenizer, **lengths}
    return _json(msgspec.json.encode(shown))


@router.delete(
    "/v1beta/datasets/{dataset_id:path}", tags=["Datasets"], response_model=None, openapi_extra=routing.EXTENSION
)
def unregister_dataset(datasets: Datasets, dataset_id: PathId) -> Response:
    """Remove a dataset and its rows, unless an unfinished job reads it or a benchmark names it."""
    datasets.remove(dataset_id)
    return _json(b"null")


def _dataset_answer(datasets: DatasetStore, dataset: StoredDataset) -> Response:
    texts = datasets.rows.preview(dataset.generation) if dataset.source_type == "rows" else ()
    return _json(msgspec.json.encode(_shown(dataset, texts)))


def _shown(dataset: StoredDataset, texts: Sequence[str]) -> dict[str, Any]:
    """A `Dataset` with these rows of it. Our metadata stand over the user's, which keep their own text."""
    metadata: dict[str, Any] = {**rows.open_object(dataset.metadata_json.encode())}
    metadata |= {
        "num_rows": dataset.num_rows,
        "num_bytes": dataset.num_bytes,
        "num_incomplete_rows": dataset.num_incomplete_rows,
        "generation": dataset.generation,
        "state": dataset.state,
    }
    if dataset.ingest_job_id is not None:
        metadata |= {"ingest_job_id": dataset.ingest_job_id, "num_rows_read": dataset.num_rows_read}
    if dataset.error is not None:
        metadata["error"] = dataset.error
    if dataset.first_incomplete_row is not None:
        metadata["first_incomplete_row"] = dataset.first_incomplete_row
    if dataset.num_nan_values:
        metadata["num_nan_values"] = dataset.num_nan_values
    return {
        "identifier": dataset.dataset_id,
        "provider_resource_id": dataset.dataset_id,
        "provider_id": PROVIDER_ID,
        "type": "dataset",
        "purpose": dataset.purpose,
        "source": {"type": "rows", "rows": [msgspec.Raw(text) for text in texts]}
        if dataset.source_type == "rows"
        else {"type": "uri", "uri": dataset.uri},
        "metadata": metadata,
    }


def _json(content: bytes | str) -> Response:
    return Response(content, media_type="application/json")

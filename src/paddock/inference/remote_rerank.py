"""Reranking as other people's servers speak it: Cohere's shape, which Jina and vLLM share, and that of
text-embeddings-inference.

What a server answers is checked before anyone computes with it; how it ordered the items is not relied on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from paddock.errors import BackendError, InvalidRequestError

Shape = Literal["cohere", "tei"]

TEI_BATCH_SIZE = 32
"""What text-embeddings-inference takes at once where it is not told otherwise (`--max-client-batch-size`)."""


class _Rank(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Rank]


class _TeiRank(msgspec.Struct):
    index: int
    score: float


Ranks = TypeVar("Ranks", _Answer, list[_TeiRank])


def refuse_images(query: Any, items: Sequence[Any]) -> None:
    """Raise `InvalidRequestError` naming the first image."""
    for pointer, item in (("/query", query), *((f"/items/{index}", item) for index, item in enumerate(items))):
        if not isinstance(item, str) and item["type"] != "text":
            raise InvalidRequestError(f"{pointer} is an image, and its provider ranks text only.", pointer=pointer)


def to_rank(item: Any) -> Any:
    """Cohere and Jina have no images beside texts in one request; vLLM has them as the content of an object."""
    if isinstance(item, str):
        return item
    return item["text"] if item["type"] == "text" else {"content": [item]}


def request(shape: Shape, model_id: str, query: Any, documents: Sequence[Any]) -> dict[str, Any]:
    """The body that asks for the scores of documents."""
    if shape == "tei":
        return {"query": query, "texts": documents, "truncate": True}
    return {"model": model_id, "query": query, "documents": documents}


def scores(shape: Shape, server: str, raw: bytes, num_documents: int) -> list[float]:
    """The scores in a server's answer, in the order of the documents. Raises `BackendError`."""
    if shape == "tei":
        found = [(rank.index, rank.score) for rank in _read(server, raw, list[_TeiRank])]
    else:
        found = [(rank.index, rank.relevance_score) for rank in _read(server, raw, _Answer).results]
    by_index = dict(found)
    if len(found) != num_documents or by_index.keys() != set(range(num_documents)):
        raise BackendError(f"{server} did not score each of the {num_documents} items once.")
    if not all(map(math.isfinite, by_index.values())):
        raise BackendError(f"{server} gave a score that is not a finite number.")
    return [by_index[index] for index in range(num_documents)]


def _read(server: str, raw: bytes, kind: type[Ranks]) -> Ranks:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendError(f"{server} gave an answer that cannot be read: {error}.") from None

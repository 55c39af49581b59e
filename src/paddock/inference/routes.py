"""Reranking, in the contract's shape and in that of Cohere and Jina; the routes of models and of chat join in here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from paddock import routing
from paddock.errors import InvalidRequestError
from paddock.inference import chat_routes, model_routes
from paddock.inference.inference import Inference
from paddock.inference.model_routes import Models
from paddock.inference.schemas import (
    RankedDocument,
    RerankData,
    RerankDocumentsRequest,
    RerankDocumentsResponse,
    RerankRequest,
    RerankResponse,
    TextDocument,
    plain_content,
)

router = routing.router()
router.include_router(model_routes.router)
router.include_router(chat_routes.router)


@router.post(
    "/v1alpha/inference/rerank",
    tags=["Inference"],
    response_model=RerankResponse,
    response_model_exclude_none=True,
    response_description="RerankResponse with indices sorted by relevance score (descending).",
)
async def rerank(request: Request, inference: Models, body: RerankRequest) -> RerankResponse:
    """Rerank a list of documents based on their relevance to a query."""
    if not body.items:
        raise InvalidRequestError("There are no items to rank.", pointer="/items")
    if body.max_num_results is not None and body.max_num_results <= 0:
        raise InvalidRequestError("`max_num_results` is at least 1, or null for all.", pointer="/max_num_results")
    query, items = plain_content(body.query), [plain_content(item) for item in body.items]
    ranking = await _rank(request, inference, body.model, query, items)
    return RerankResponse(
        data=[
            RerankData(index=place.index, relevance_score=place.score, truncated=place.truncated)
            for place in ranking[: body.max_num_results]
        ]
    )


@router.post("/v1/rerank", tags=["Inference"], openapi_extra=routing.EXTENSION, response_model_exclude_none=True)
async def rerank_documents(
    request: Request, inference: Models, body: RerankDocumentsRequest
) -> RerankDocumentsResponse:
    """Rank documents by their relevance to a query, in the shape that clients of Cohere and Jina know."""
    documents = [TextDocument(text=item) if isinstance(item, str) else item for item in body.documents]
    ranking = await _rank(request, inference, body.model, body.query, [document.text for document in documents])
    results = [
        RankedDocument(
            index=place.index,
            relevance_score=place.score,
            document=documents[place.index] if body.return_documents else None,
            truncated=place.truncated,
        )
        for place in ranking[: body.top_n]
    ]
    return RerankDocumentsResponse(id=f"rerank-{uuid.uuid4().hex}", model=body.model, results=results)


@dataclass(frozen=True)
class _Place:
    index: int
    score: float
    truncated: Literal[True] | None


async def _rank(
    request: Request, inference: Inference, model_id: str, query: Any, items: Sequence[Any]
) -> list[_Place]:
    """Each item's place, the most relevant first; of equals, the one that came first."""
    model = await run_in_threadpool(inference.find, model_id)
    engine = inference.engine(model)
    relevance = await routing.while_connected(request, engine.rerank(model, query, items))
    truncated = frozenset(relevance.truncated)
    places = (_Place(i, score, True if i in truncated else None) for i, score in enumerate(relevance.scores))
    return sorted(places, key=lambda place: -place.score)

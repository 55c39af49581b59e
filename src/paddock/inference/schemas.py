"""The contract's schemas of reranking, and those of the extensions about models. Chat and completions have
`chat_schemas`.

A class without a docstring has no description in the contract.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from paddock.routing import EXTENSION
from paddock.wire import Id, RequestBody, Schema

# ---------------------------------------------------------------------------------------------------- content


class OpenAIImageURL(Schema):
    """Image URL specification for OpenAI-compatible chat completion messages."""

    url: str
    detail: str | None = None


class OpenAIChatCompletionContentPartImageParam(Schema):
    """Image content part for OpenAI-compatible chat completion messages."""

    type: Literal["image_url"] = "image_url"
    image_url: OpenAIImageURL


class OpenAIChatCompletionContentPartTextParam(Schema):
    """Text content part for OpenAI-compatible chat completion messages."""

    type: Literal["text"] = "text"
    text: str


ContentPart = (
    Annotated[OpenAIChatCompletionContentPartTextParam, Field(title="OpenAIChatCompletionContentPartTextParam")]
    | Annotated[OpenAIChatCompletionContentPartImageParam, Field(title="OpenAIChatCompletionContentPartImageParam")]
)
_ITEM_TITLE = "string | OpenAIChatCompletionContentPartTextParam | OpenAIChatCompletionContentPartImageParam"
RankedContent = Annotated[str | ContentPart, Field(title=_ITEM_TITLE)]
"""A query or an item, as the contract has it."""


def plain_content(content: str | ContentPart) -> Any:
    """A text or a part as engines take it: the fields that are read, and no other that came with them."""
    if isinstance(content, str):
        return content
    if isinstance(content, OpenAIChatCompletionContentPartTextParam):
        return {"type": "text", "text": content.text}
    image = content.image_url
    detail = {} if image.detail is None else {"detail": image.detail}
    return {"type": "image_url", "image_url": {"url": image.url, **detail}}


# ---------------------------------------------------------------------------------------------------- rerank


class RerankRequest(RequestBody):
    model: str
    query: RankedContent
    items: Annotated[list[RankedContent], FailFast()]
    max_num_results: int | None = None


Truncated = Annotated[
    Literal[True] | None,
    Field(
        description="Only there if the item was too long for the model, which read its beginning.",
        json_schema_extra=EXTENSION,
    ),
]


class RerankData(Schema):
    """A single rerank result from a reranking response."""

    index: int
    relevance_score: float
    truncated: Truncated = None


class RerankResponse(Schema):
    """Response from a reranking request."""

    data: list[RerankData]


class TextDocument(Schema):
    """A document of `/v1/rerank`; its other fields come back with it, and are not ranked by."""

    text: str


class RerankDocumentsRequest(RequestBody):
    """A request for a ranking in the shape of Cohere and Jina."""

    model: str
    query: str
    documents: Annotated[list[str | TextDocument], FailFast()] = Field(min_length=1)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False


class RankedDocument(Schema):
    """One document's place. `document` is there if the request asked for it, `truncated` if the model read only the
    beginning."""

    index: int
    relevance_score: float
    document: TextDocument | None = None
    truncated: Literal[True] | None = None


class RerankDocumentsResponse(Schema):
    """The documents, the most relevant first."""

    id: str
    model: str
    results: list[RankedDocument]


# ---------------------------------------------------------------------------------------------------- models

ModelType = Literal["llm", "embedding", "rerank"]


class RegisterModelRequest(RequestBody):
    """A model to give an id to."""

    model_id: Id
    provider_id: str | None = Field(default=None, description="`local` where none is given.")
    provider_model_id: str | None = Field(
        default=None,
        min_length=1,
        description="What the provider calls it; for `local` a folder or a hub id. The model's own id where none is given.",
    )
    model_type: ModelType = "llm"
    metadata: dict[str, Any] | None = None


class ModelRecord(Schema):
    """A model, in the words of Llama Stack's clients and of OpenAI's at once."""

    identifier: str
    type: Literal["model"] = "model"
    provider_id: str
    provider_resource_id: str
    model_type: ModelType
    metadata: dict[str, Any]
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    custom_metadata: dict[str, Any]


class ListModelsResponse(Schema):
    """The registered models and the checkpoints of training jobs."""

    object: Literal["list"] = "list"
    data: list[ModelRecord]


class ModelProfile(Schema):
    """What a model is, as its files say. Null is what they do not say, or what is not on this machine."""

    model_id: str
    provider_id: str
    job_id: str | None = Field(description="The training job whose checkpoint it is.")
    base_model: str | None = Field(description="What a checkpoint was trained from.")
    is_here: bool = Field(description="Whether its files are on this machine.")
    architecture: str | None = None
    num_parameters: int | None = Field(default=None, description="Those of an adapter not counted.")
    num_adapter_parameters: int | None = None
    dtype: str | None = Field(default=None, description="The type of most parameters in the files.")
    num_file_bytes: int | None = None
    cpu_memory_bytes: int | None = Field(default=None, description="What its weights take in the engine on a CPU.")
    gpu_memory_bytes: int | None = Field(default=None, description="The same on a GPU.")
    context: int | None = Field(default=None, description="Tokens that prompt and answer may have together.")
    has_chat_template: bool | None = None
    reads_images: bool | None = None
    licence: str | None = Field(default=None, description="As its model card says.")

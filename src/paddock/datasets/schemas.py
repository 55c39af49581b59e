"""The contract's classes of datasets, and the body of registration, which the contract leaves to the server.

Rows never pass through these classes: `bodies` cuts them out of a request as text, `routes` joins them into an answer.
What is here parses everything else and describes the whole in OpenAPI.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from paddock.wire import Id, Named, RequestBody, Rows, Schema


class DatasetPurpose(StrEnum):
    """Purpose of the dataset. Each purpose has a required input data schema."""

    POST_TRAINING_MESSAGES = "post-training/messages"
    EVAL_QUESTION_ANSWER = "eval/question-answer"
    EVAL_MESSAGES_ANSWER = "eval/messages-answer"


class URIDataSource(Schema):
    """A dataset that can be obtained from a URI."""

    type: Literal["uri"] = "uri"
    uri: str


class RowsDataSource(Schema):
    """A dataset stored in rows."""

    type: Literal["rows"] = "rows"
    rows: Rows


DataSource = Annotated[
    Annotated[URIDataSource, Field(title="URIDataSource")] | Annotated[RowsDataSource, Field(title="RowsDataSource")],
    Field(discriminator="type", title="URIDataSource | RowsDataSource"),
]


class Dataset(Schema):
    """Dataset resource for storing and accessing training or evaluation data."""

    identifier: str = Field(description="Unique identifier for this resource in llama stack")
    provider_resource_id: str | None = Field(
        default=None, description="Unique identifier for this resource in the provider"
    )
    provider_id: str = Field(description="ID of the provider that owns this resource")
    type: Literal["dataset"] = "dataset"
    purpose: Named[DatasetPurpose]
    source: DataSource
    metadata: dict[str, Any] = Field(default_factory=dict, description="Any additional metadata for this dataset")


class ListDatasetsResponse(Schema):
    """Response from listing datasets."""

    data: list[Dataset]


class PaginatedResponse(Schema):
    """A generic paginated response that follows a simple format."""

    data: list[dict[str, Any]]
    has_more: bool
    url: str | None = None


class AppendRowsRequest(RequestBody):
    rows: Rows


class RegisterDatasetRequest(RequestBody):
    """A dataset to keep: its rows, or where they are read from, once, when it is registered."""

    purpose: Named[DatasetPurpose]
    source: DataSource
    dataset_id: Id | None = Field(default=None, description="Its id from now on; one is made up where none is given")
    metadata: dict[str, Any] | None = Field(default=None, description="Any additional metadata for this dataset")

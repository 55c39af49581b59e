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


class FieldLengths(Schema):
    """Lengths of a field's values: characters or tokens of all strings in them."""

    min: int | None
    mean: float | None
    max: int | None


class TokenLengths(Schema):
    """Tokens of all strings in a field's values, in the first `as_of_row` rows, by the tokenizer of a model."""

    tokenizer: str
    as_of_row: int
    fields: dict[str, FieldLengths]


class DatasetField(Schema):
    """Values of one top-level field of a dataset's rows."""

    types: dict[str, int] = Field(description="How many values are of each type of JSON")
    num_null: int
    num_absent: int = Field(description="Rows that do not have the field")
    num_distinct: int
    num_distinct_is_exact: bool = Field(description="False where there are so many that the number is estimated")
    characters: FieldLengths


class IncompleteRow(Schema):
    """A row that lacks a column which the dataset's purpose needs."""

    row: int
    lacks: str


class EqualRow(Schema):
    """A row that is equal to an earlier one."""

    row: int
    equals: int


class EqualRows(Schema):
    """Rows that are equal to an earlier one, but for spaces and the order of keys: all are counted, the first named."""

    num_rows: int
    rows: list[EqualRow]


class OverlappingRow(Schema):
    """A row that asks what a row of another dataset asks."""

    row: int
    other_row: int


class DatasetOverlap(Schema):
    """Rows that ask what a row of another dataset asks, but for spaces and capitals."""

    dataset_id: str
    num_rows: int
    rows: list[OverlappingRow]


class DatasetProfile(Schema):
    """What is known of the first `as_of_row` rows of a dataset."""

    dataset_id: str
    num_rows: int
    num_bytes: int
    as_of_row: int
    fields: dict[str, DatasetField]
    num_other_values: int = Field(description="Values under further names, where there are very many")
    num_incomplete_rows: int
    incomplete_rows: list[IncompleteRow]
    duplicates: EqualRows | None = None
    overlap: DatasetOverlap | None = None
    tokens: TokenLengths | None = None

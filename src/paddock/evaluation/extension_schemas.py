"""Schemas of what the contract leaves to the server, in the shapes that official clients send and read: registering
benchmarks and scoring functions, and scoring answers that are already there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from paddock.evaluation.schemas import ScoringFnParams, ScoringResult
from paddock.wire import Id, RequestBody, Rows, Schema


class RegisterBenchmarkRequest(RequestBody):
    """A benchmark to keep: a dataset, and the functions that score the answers to its rows."""

    benchmark_id: Id
    dataset_id: str
    scoring_functions: list[str]
    provider_id: str | None = None
    provider_benchmark_id: str | None = None
    metadata: dict[str, Any] | None = None


class ReturnType(Schema):
    """What a scoring function's `score` is."""

    type: Literal[
        "string",
        "number",
        "boolean",
        "array",
        "object",
        "json",
        "union",
        "chat_completion_input",
        "completion_input",
        "agent_turn_input",
    ]


class ScoringFn(Schema):
    """A scoring function resource for evaluating model outputs."""

    identifier: str = Field(description="Unique identifier for this resource in llama stack")
    provider_resource_id: str | None = Field(
        default=None, description="Unique identifier for this resource in the provider"
    )
    provider_id: str = Field(description="ID of the provider that owns this resource")
    type: Literal["scoring_function"] = "scoring_function"
    description: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict, description="Any additional metadata for this definition")
    return_type: ReturnType
    params: ScoringFnParams | None = Field(default=None, description="What it runs with where a request says nothing")


class ListScoringFunctionsResponse(Schema):
    """Scoring functions: those that come with Paddock, and those that users registered."""

    data: list[ScoringFn]


class RegisterScoringFunctionRequest(RequestBody):
    """A scoring function to keep: one that comes with Paddock, chosen by `params.type`, with parameters of its own."""

    scoring_fn_id: Id
    description: str
    return_type: ReturnType
    provider_id: str | None = None
    provider_scoring_fn_id: str | None = None
    params: ScoringFnParams | None = None


ScoringFunctionChoice = dict[str, ScoringFnParams | None]
"""Function id → its parameters, or null for its own."""


class ScoreRequest(RequestBody):
    """Rows with their `generated_answer`, and the functions to score them with."""

    input_rows: Rows
    scoring_functions: ScoringFunctionChoice


class ScoreResponse(Schema):
    """The response from scoring."""

    results: dict[str, ScoringResult]


class ScoreBatchRequest(RequestBody):
    """A dataset whose rows have their `generated_answer`, and the functions to score them with."""

    dataset_id: str
    scoring_functions: ScoringFunctionChoice
    save_results_dataset: bool = False


class ScoreBatchResponse(Schema):
    """Response from batch scoring operations on datasets."""

    dataset_id: str | None = None
    results: dict[str, ScoringResult]

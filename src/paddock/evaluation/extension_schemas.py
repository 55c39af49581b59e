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


class Comparison(Schema):
    """How a job's scores differ from those of a baseline, row by row, by one function. What cannot be told is null."""

    scoring_function: str
    baseline_job_id: str
    job_id: str
    baseline_model: str
    model: str
    num_total: int = Field(description="Rows that the jobs evaluated.")
    num_compared: int = Field(description="Rows that both have a number for; the others failed on one side or both.")
    num_clusters: int | None = Field(default=None, description="Where rows name a `cluster`.")
    baseline_mean: float | None = None
    mean: float | None = None
    difference: float | None = Field(default=None, description="`mean` less `baseline_mean`.")
    stderr: float | None = None
    ci95: list[float] | None = None
    smallest_detectable_difference: float | None = Field(
        default=None, description="What so many rows find with a probability of 80 %, at 5 % two-sided."
    )
    test: Literal["mcnemar", "paired t"] | None = None
    p_value: float | None = Field(default=None, description="Two-sided; of McNemar's test the exact one.")
    p_mid: float | None = Field(default=None, description="McNemar's mid-p.")
    adjusted_p_value: float | None = Field(default=None, description="`p_value`, for all comparisons of the answer.")
    num_only_baseline_right: int | None = None
    num_only_right: int | None = None
    num_flipped: int = Field(description="Rows whose scores differ.")
    flipped_rows: list[int] = Field(description="Their indices, the first 1,000.")


class ComparisonResponse(Schema):
    """Jobs against the first of them."""

    adjustment: str
    data: list[Comparison]

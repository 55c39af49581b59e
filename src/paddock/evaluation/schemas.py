"""The contract's schemas of benchmarks and evaluation. Registration and scoring, which it leaves open, are in
`extension_schemas`.

A class without a docstring has no description in the contract.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from paddock.jobs.states import JobStatus
from paddock.wire import Named, RequestBody, Rows, Schema, escape_pointer, ignored_fields

_EXTENSION: dict[str, Any] = {"x-paddock-extension": True}

# ---------------------------------------------------------------------------------------------------- benchmarks


class Benchmark(Schema):
    """A benchmark resource for evaluating model performance."""

    identifier: str = Field(description="Unique identifier for this resource in llama stack")
    provider_resource_id: str | None = Field(
        default=None, description="Unique identifier for this resource in the provider"
    )
    provider_id: str = Field(description="ID of the provider that owns this resource")
    type: Literal["benchmark"] = "benchmark"
    dataset_id: str
    scoring_functions: list[str]
    metadata: dict[str, Any] = Field(default_factory=dict, description="Metadata for this evaluation task")


class ListBenchmarksResponse(Schema):
    data: list[Benchmark]


# ---------------------------------------------------------------------------------------------------- the candidate


class GreedySamplingStrategy(Schema):
    """Greedy sampling strategy that selects the highest probability token at each step."""

    type: Literal["greedy"] = "greedy"


class TopPSamplingStrategy(Schema):
    """Top-p (nucleus) sampling strategy that samples from the smallest set of tokens with cumulative probability >= p."""

    type: Literal["top_p"] = "top_p"
    temperature: Annotated[float, Field(ge=0.0)] | None
    top_p: float | None = 0.95


class TopKSamplingStrategy(Schema):
    """Top-k sampling strategy that restricts sampling to the k most likely tokens."""

    type: Literal["top_k"] = "top_k"
    top_k: int = Field(ge=1)


SamplingStrategy = Annotated[
    Annotated[GreedySamplingStrategy, Field(title="GreedySamplingStrategy")]
    | Annotated[TopPSamplingStrategy, Field(title="TopPSamplingStrategy")]
    | Annotated[TopKSamplingStrategy, Field(title="TopKSamplingStrategy")],
    Field(discriminator="type", title="GreedySamplingStrategy | TopPSamplingStrategy | TopKSamplingStrategy"),
]


class SamplingParams(Schema):
    """Sampling parameters."""

    strategy: SamplingStrategy = Field(default_factory=GreedySamplingStrategy)
    max_tokens: int | None = None
    repetition_penalty: float | None = 1.0
    stop: list[str] | None = None


class URL(Schema):
    """A URL reference to external content."""

    uri: str


class _URLOrData(Schema):
    """A URL or a base64 encoded string"""

    url: Annotated[URL, Field(title="URL")] | None = Field(default=None, title="URL")
    data: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})


class ImageContentItem(Schema):
    """A image content item"""

    __qualname__ = "ImageContentItem-Input"  # the component's name in the contract

    type: Literal["image"] = "image"
    image: _URLOrData


class TextContentItem(Schema):
    """A text content item"""

    type: Literal["text"] = "text"
    text: str


ContentItem = Annotated[
    Annotated[ImageContentItem, Field(title="ImageContentItem-Input")]
    | Annotated[TextContentItem, Field(title="TextContentItem")],
    Field(discriminator="type", title="ImageContentItem-Input | TextContentItem"),
]


class SystemMessage(Schema):
    """A system message providing instructions or context to the model."""

    role: Literal["system"] = "system"
    content: (
        str | ContentItem | Annotated[list[ContentItem], Field(title="list[ImageContentItem-Input | TextContentItem]")]
    ) = Field(title="string | list[ImageContentItem-Input | TextContentItem]")


class ModelCandidate(Schema):
    """A model candidate for evaluation."""

    type: Literal["model"] = "model"
    model: str
    sampling_params: SamplingParams
    system_message: Annotated[SystemMessage, Field(title="SystemMessage")] | None = Field(
        default=None, title="SystemMessage"
    )


# ---------------------------------------------------------------------------------------------------- scoring


class AggregationFunctionType(StrEnum):
    """Types of aggregation functions for scoring results."""

    AVERAGE = "average"
    WEIGHTED_AVERAGE = "weighted_average"
    MEDIAN = "median"
    CATEGORICAL_COUNT = "categorical_count"
    ACCURACY = "accuracy"


AggregationFunctions = Annotated[
    list[Named[AggregationFunctionType]], Field(description="Aggregation functions to apply to the scores of each row")
]


class PairwiseJudging(Schema):
    """How a judge's verdict names the better one of two answers that its template shows: the generated and the expected."""

    first: str = Field(default="A", description="The verdict for the answer that is shown first.")
    second: str = Field(default="B", description="The verdict for the one that is shown second.")
    tie: str | None = Field(default="C", description="The verdict for neither.")
    swap_order: bool = Field(default=True, description="Ask again with the two answers in each other's place.")


def _extension(description: str, **bounds: Any) -> Any:
    """A field that the contract does not have: it is not even shown where it is not used."""
    return Field(
        default=None, description=description, json_schema_extra=_EXTENSION, exclude_if=lambda v: v is None, **bounds
    )


class LLMAsJudgeScoringFnParams(Schema):
    """Parameters for LLM-as-judge scoring function configuration."""

    type: Literal["llm_as_judge"] = "llm_as_judge"
    judge_model: str
    prompt_template: str | None = None
    judge_score_regexes: list[str] = Field(
        default_factory=list, description="Regexes to extract the answer from generated response"
    )
    aggregation_functions: AggregationFunctions = Field(default_factory=list)
    temperature: float | None = _extension("What the judge samples at; 0 where it is absent.", ge=0.0)
    num_repeats: int | None = _extension("How often the judge is asked about each answer.", ge=1, le=100)
    score_range: list[float] | None = _extension(
        "The least and the greatest score that a verdict can be; another one is no verdict.", min_length=2, max_length=2
    )
    embedding_model: str | None = _extension(
        "What compares texts for those of `braintrust::…` that need it: a model of the type `embedding`."
    )
    pairwise: PairwiseJudging | None = _extension(
        "The template shows two answers, the generated and the expected one, and asks which is better."
    )


class TextMatching(Schema):
    """What of an answer is compared with the expected one, and what in both is no difference."""

    select: int = Field(default=0, description="Which match of a regex counts: 0 is the first, -1 the last.")
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[str] = Field(default_factory=list, description="What they match is removed from both.")


class RegexParserScoringFnParams(Schema):
    """Parameters for regex parser scoring function configuration."""

    type: Literal["regex_parser"] = "regex_parser"
    parsing_regexes: list[str] = Field(
        default_factory=list, description="Regex to extract the answer from generated response"
    )
    aggregation_functions: AggregationFunctions = Field(default_factory=list)
    matching: TextMatching | None = _extension("How `text::filtered_exact_match` compares.")


class BasicScoringFnParams(Schema):
    """Parameters for basic scoring function configuration."""

    type: Literal["basic"] = "basic"
    aggregation_functions: AggregationFunctions = Field(default_factory=list)


ScoringFnParams = Annotated[
    Annotated[LLMAsJudgeScoringFnParams, Field(title="LLMAsJudgeScoringFnParams")]
    | Annotated[RegexParserScoringFnParams, Field(title="RegexParserScoringFnParams")]
    | Annotated[BasicScoringFnParams, Field(title="BasicScoringFnParams")],
    Field(discriminator="type"),
]


class ScoringResult(Schema):
    """A scoring result for a single row."""

    score_rows: list[dict[str, Any]]
    aggregated_results: dict[str, Any]


# ---------------------------------------------------------------------------------------------------- evaluation


def _title_of_values(schema: dict[str, Any]) -> None:
    # Pydantic drops the title of a union that a dict's values are.
    schema["additionalProperties"]["title"] = " | ".join(
        params.__name__ for params in (LLMAsJudgeScoringFnParams, RegexParserScoringFnParams, BasicScoringFnParams)
    )


class BenchmarkConfig(RequestBody):
    """A benchmark configuration for evaluation."""

    eval_candidate: ModelCandidate
    scoring_params: dict[str, ScoringFnParams] = Field(
        default_factory=dict,
        description="Map between scoring function id and parameters for each scoring function you want to run",
        json_schema_extra=_title_of_values,
    )
    num_examples: int | None = Field(
        default=None,
        description="Number of examples to evaluate (useful for testing), if not provided, all examples in the dataset "
        "will be evaluated",
    )

    num_samples: int | None = _extension("Answers to each row, drawn independently.", ge=1, le=1000)
    pass_at_k: list[int] | None = _extension(
        "For each k the probability that one of k answers is right is told, by `pass@k`.", max_length=20
    )
    seed: int | None = _extension("What the answers are drawn from.", ge=0, lt=2**53)

    _pointer: str = PrivateAttr(default="")

    @property
    def pointer(self) -> str:
        """Where the configuration stands in the body: at its top, or where official clients wrap it."""
        return self._pointer

    @model_validator(mode="wrap")
    @classmethod
    def _unwrap(cls, value: Any, handler: ModelWrapValidatorHandler[BenchmarkConfig]) -> BenchmarkConfig:
        """Official clients send `{"benchmark_config": …}` where the contract has the configuration itself."""
        if not (isinstance(value, dict) and "benchmark_config" in value and "eval_candidate" not in value):
            return handler(value)
        try:
            config = handler(value["benchmark_config"])
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, [_below(e) for e in error.errors()]) from None
        config._pointer = "/benchmark_config"
        notes = ignored_fields.get()
        if notes is not None:
            beside = [f"/{escape_pointer(name)}" for name in value if name != "benchmark_config"]
            notes[:] = beside + [config._pointer + note for note in notes]
        return config


def _below(error: Any) -> InitErrorDetails:
    """The same error, its place told from the outermost body."""
    kind = PydanticCustomError(error["type"], error["msg"].replace("{", "{{").replace("}", "}}"))
    return {"type": kind, "loc": ("benchmark_config", *error["loc"]), "input": error["input"]}


class EvaluateRowsRequest(RequestBody):
    input_rows: Rows
    scoring_functions: list[str]
    benchmark_config: BenchmarkConfig


class EvaluateResponse(Schema):
    """The response from an evaluation."""

    generations: list[dict[str, Any]]
    scores: dict[str, ScoringResult]


class Job(Schema):
    """A job execution instance with status tracking."""

    job_id: str
    status: JobStatus
    put_off: str | None = Field(
        default=None,
        description="Why a scheduled job was put off: what it needs is away.",
        json_schema_extra=_EXTENSION,
    )
    error: str | None = Field(default=None, description="Why the job failed.", json_schema_extra=_EXTENSION)
    retryable: bool | None = Field(
        default=None, description="Whether the same request may go better another time.", json_schema_extra=_EXTENSION
    )
    log_tail: str | None = Field(
        default=None, description="The last lines that a failed job printed.", json_schema_extra=_EXTENSION
    )
    progress: dict[str, Any] | None = Field(
        default=None, description="`{done, total, unit}`.", json_schema_extra=_EXTENSION
    )

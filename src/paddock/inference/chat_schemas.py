"""Chat and completions in OpenAI's shapes. Extensions of the contract.

What OpenAI's API knows and no engine here can do is declared too, so that it can be refused by name rather than ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from paddock.inference.schemas import ContentPart
from paddock.wire import RequestBody, Schema

MAX_CHOICES = 8

StopSequence = Annotated[str, Field(min_length=1)]
TokenCount = Annotated[int, Field(ge=1, le=2**31 - 1)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]

# ---------------------------------------------------------------------------------------------------- requests


class StreamOptions(Schema):
    """How a stream ends: with or without a chunk that counts tokens."""

    include_usage: bool | None = None


class GenerationRequest(RequestBody):
    """The fields that chat and completions share."""

    model: str
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: TokenCount | None = None
    repetition_penalty: float | None = Field(default=None, gt=0)
    max_tokens: TokenCount | None = None
    stop: StopSequence | Annotated[list[StopSequence], Field(max_length=16)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None


class CalledFunction(Schema):
    """What a tool call calls: `arguments` is JSON in a text."""

    name: str
    arguments: str


class ToolCallRecord(Schema):
    """A function that the model wants to have called."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Schema):
    """A turn of a conversation. `content` may be null where `tool_calls` are; the role `tool` answers one of them."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallRecord] | None = None
    tool_call_id: str | None = None


class FunctionDefinition(Schema):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Schema):
    """What the model may use: a function."""

    type: Literal["function"]
    function: FunctionDefinition


class ChosenFunction(Schema):
    """A function by its name."""

    name: str


class ToolChoice(Schema):
    """The function that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class PlainText(Schema):
    """An answer of any form."""

    type: Literal["text"]


class JsonObject(Schema):
    """An answer that is a JSON object."""

    type: Literal["json_object"]


class NamedJsonSchema(Schema):
    """A JSON schema; its name and description are for the reader."""

    name: str
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class JsonOfSchema(Schema):
    """An answer that is JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedJsonSchema


ResponseFormat = Annotated[PlainText | JsonObject | JsonOfSchema, Field(discriminator="type")]


class ChatCompletionRequest(GenerationRequest):
    """A conversation to be answered."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: TokenCount | None = Field(default=None, description="The newer name of `max_tokens`.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class CompletionRequest(GenerationRequest):
    """A text, or several, to be continued."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="0 goes with `echo`."
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | Literal[False] | None = None
    echo: bool | None = None
    suffix: Any = None
    best_of: Any = None


# ---------------------------------------------------------------------------------------------------- answers


class Usage(Schema):
    """Tokens, those of a prompt counted once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LikelyTokenRecord(Schema):
    """A token that is likely in a place, its log-probability in nats, and its bytes: it may be part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenRecord(Schema):
    """A token of the answer, and the likeliest in its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[LikelyTokenRecord]


class ChatLogProbs(Schema):
    """The tokens of a chat's answer."""

    content: list[TokenRecord]
    refusal: None = None


class TextLogProbs(Schema):
    """The tokens of a continuation, and where in its text each begins. An echoed prompt's first token has no
    log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class AssistantMessage(Schema):
    """The model's turn. It has `tool_calls` where it wants functions called."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    tool_calls: list[ToolCallRecord] | None = Field(default=None, exclude_if=lambda calls: calls is None)


class ChatChoice(Schema):
    """One answer."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: ChatLogProbs | None = None


class ChatCompletion(Schema):
    """A model's answers to a conversation. `usage` is null where a remote server does not count."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None


class TextChoice(Schema):
    """One continuation."""

    index: int
    text: str
    finish_reason: str
    logprobs: TextLogProbs | None = None


class Completion(Schema):
    """A model's continuations: the first `n` are the first prompt's, and so on."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None

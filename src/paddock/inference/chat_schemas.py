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
    logprobs: Any = None
    logit_bias: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None


class ChatMessage(Schema):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]
    name: str | None = None
    tool_calls: Any = None


class ChatCompletionRequest(GenerationRequest):
    """A conversation to be answered."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: TokenCount | None = Field(default=None, description="The newer name of `max_tokens`.")
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    top_logprobs: Any = None


class CompletionRequest(GenerationRequest):
    """A text, or several, to be continued."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    echo: Any = None
    suffix: Any = None
    best_of: Any = None


class Usage(Schema):
    """Tokens, those of a prompt counted once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(Schema):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(Schema):
    """One answer."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: None = None


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
    logprobs: None = None


class Completion(Schema):
    """A model's continuations: the first `n` are the first prompt's, and so on."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None

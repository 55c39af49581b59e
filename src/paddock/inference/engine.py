"""What can be asked of a model, wherever it runs. Two engines implement it: `local` and `remote`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = dict[str, Any]
"""A chat turn in OpenAI's chat format: `role` and `content`, a string or a list of parts; `tool_calls` and `tool_call_id`
where tools are in play."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 restrict nothing; None leaves a
    knob at the model's default."""

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    """`json_object` or `json_schema` as OpenAI writes it: what may come next is what keeps to it."""
    num_likely: int | None = None
    """Tell the log-probability of each token, and so many of the likeliest in its place; None for neither."""


@dataclass(frozen=True)
class LikelyToken:
    """A token's text, the bytes that it stands for where they are known (parts of a character are no text), and its
    log-probability, in nats, by the model itself: before temperature, penalties and limits."""

    token: str
    logprob: float
    bytes: list[int] | None = None


@dataclass(frozen=True)
class ChosenToken:
    """A token of an answer, and the likeliest in its place. The first token of an echoed prompt has no log-probability:
    nothing stands before it."""

    token: str
    logprob: float | None
    bytes: list[int] | None = None
    likeliest: tuple[LikelyToken, ...] = ()


@dataclass(frozen=True)
class Tools:
    """Functions that the model may call, in OpenAI's form. It must call one of `required`, if that names any."""

    functions: tuple[dict[str, Any], ...]
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants to have called. `arguments` is the text that it wrote: JSON, if all went well."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """What has come of an answer since the last piece."""

    text: str
    tokens: tuple[ChosenToken, ...] = ()


OnPiece = Callable[[Piece], Awaitable[None]]


@dataclass(frozen=True)
class Generation:
    """A model's answer. `finish_reason` is `stop` (it ended, or met a stop sequence), `length` or `tool_calls`; `tokens`
    are there if the sampling asked for them. `num_prefilled_tokens` are the prompt's tokens that a local model read for it:
    none where it shared the reading of another answer's prompt."""

    text: str
    finish_reason: str
    num_prompt_tokens: int | None
    num_generated_tokens: int | None
    latency_seconds: float
    tokens: tuple[ChosenToken, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    num_prefilled_tokens: int | None = None


@dataclass(frozen=True)
class Relevance:
    """A score for each item, in the order of the items, and the indices of those that were too long to be read whole, as
    far as that is known."""

    scores: list[float]
    truncated: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Likelihoods:
    """How likely texts are after another, in their order: the sum over a text's tokens of log p(token | what stands before
    it), in nats, and how many tokens these are. `is_truncated` tells that the model did not see the beginning."""

    log_likelihoods: list[float]
    num_tokens: list[int]
    is_truncated: bool = False


@dataclass(frozen=True)
class Model:
    """A model that requests may name. For a checkpoint, `job_id` made it and `base_model` lies under the adapter."""

    model_id: str
    provider_id: str
    provider_model_id: str
    model_type: str = "llm"
    metadata: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    base_model: str | None = None
    created_at: float = field(default=0.0, compare=False)
    """When the store took it in, in seconds since 1970, UTC; it is no part of what the model is."""


class Engine(Protocol):
    """One source of models. Every call may raise `InvalidRequestError` (the model cannot do what is asked),
    `BackendAwayError` (it is down or busy), `BackendError` (it broke off or answered nonsense) or `BackendTimeoutError`.
    Cancelling its task takes it back."""

    max_concurrency: int
    """How many calls are worth having in flight at once."""

    async def chat(
        self,
        model: Model,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        tools: Tools | None = None,
        on_piece: OnPiece | None = None,
    ) -> Generation:
        """The model's answer to a conversation, through its own chat template. `on_piece` is awaited with each piece as it
        comes; their texts together are the answer's. Calls of tools come with the whole."""
        ...

    async def complete(
        self, model: Model, prompt: str, sampling: Sampling, *, echo: bool = False, on_piece: OnPiece | None = None
    ) -> Generation:
        """The model's continuation of a text, with no template; `on_piece` as for a chat. With `echo` the answer's text and
        tokens begin with the prompt's, and it may end there (`max_tokens` 0)."""
        ...

    async def log_likelihoods(self, model: Model, context: str, continuations: Sequence[str]) -> Likelihoods:
        """How likely each continuation is after the context, with no template. Which tokens are the continuation's: those
        of both together, less as many as the context has by itself, without the white space at its end."""
        ...

    async def rerank(self, model: Model, query: Any, items: Sequence[Any]) -> Relevance:
        """How relevant each item is to the query. Both are strings or content parts in OpenAI's form
        (`{"type": "text", …}`, `{"type": "image_url", …}`)."""
        ...

    def check_image(self, model: Model, url: str) -> None:
        """Raise `InvalidRequestError` if it is known now, without loading the model, that it cannot be shown this image
        in a conversation."""
        ...

    def folders(self, model: Model) -> Sequence[str]:
        """Where the model's files are: folders or hub ids, an adapter's before its base's; none for a remote model."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...

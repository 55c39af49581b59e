"""What can be asked of a model, wherever it runs. Two engines implement it: `local` and `remote`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = dict[str, Any]
"""A chat turn: `role` and `content`, a string or a list of parts as in OpenAI's chat format."""


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


@dataclass(frozen=True)
class Generation:
    """A model's answer. `finish_reason` is `stop` (it ended, or met a stop sequence) or `length`."""

    text: str
    finish_reason: str
    num_prompt_tokens: int | None
    num_generated_tokens: int | None
    latency_seconds: float


@dataclass(frozen=True)
class Relevance:
    """A score for each item, in the order of the items, and the indices of those that were too long to be read whole, as
    far as that is known."""

    scores: list[float]
    truncated: list[int] = field(default_factory=list)


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
    `BackendError` (it is down or answered nonsense) or `BackendTimeoutError`. Cancelling its task takes it back."""

    max_concurrency: int
    """How many calls are worth having in flight at once."""

    async def chat(self, model: Model, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The model's answer to a conversation, through its own chat template."""
        ...

    async def complete(self, model: Model, prompt: str, sampling: Sampling) -> Generation:
        """The model's continuation of a text, with no template."""
        ...

    async def rerank(self, model: Model, query: Any, items: Sequence[Any]) -> Relevance:
        """How relevant each item is to the query. Both are strings or content parts in OpenAI's form
        (`{"type": "text", …}`, `{"type": "image_url", …}`)."""
        ...

    def check_image(self, model: Model, url: str) -> None:
        """Raise `InvalidRequestError` if it is known now, without loading the model, that it cannot be shown this image
        in a conversation."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...

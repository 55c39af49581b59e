"""What the engine process is asked and what it answers, as JSON over its unix socket.

`local` writes requests and reads answers, `engine_process` the other way round. Content is text by now, but for turns
with images, which are parts still.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from paddock.errors import BackendError, BackendTimeoutError, InvalidRequestError, PaddockError
from paddock.inference.engine import ChosenToken, Likelihoods, Model, Sampling, ToolCall, Tools

BACKLOG = 1024
"""Clients that may wait to be let in, as while the engine process still starts."""


PRECISION = "precision"
"""The key in a local model's metadata that says what it computes in as a reranker."""

PRECISIONS = ("fp32", "bf16", "int8")


class LocalModel(msgspec.Struct, frozen=True):
    """What to load. `weights` is the name that `hub.fetch` knows, `adapter` a folder with an adapter over them;
    `model_id` is what messages call the model; `precision` is what a reranker computes in."""

    model_id: str
    weights: str
    adapter: str | None = None
    precision: str = "fp32"

    @classmethod
    def of(cls, model: Model, checkpoint_root: Path) -> LocalModel:
        """Where a model of the provider `local` lies; checkpoints lie below `checkpoint_root`."""
        if model.job_id is None:
            precision = model.metadata.get(PRECISION, "fp32")
            return cls(model.model_id, model.provider_model_id, precision=precision)
        folder = str(checkpoint_root / model.provider_model_id)
        if model.base_model is None:
            return cls(model.model_id, folder)
        return cls(model.model_id, model.base_model, folder)


class ChatRequest(msgspec.Struct, frozen=True, tag="chat"):
    """Answer a conversation: turns of `role` and `content`, a text or parts in OpenAI's form."""

    model: LocalModel
    messages: list[dict[str, Any]]
    sampling: Sampling
    tools: Tools | None = None
    in_pieces: bool = False
    """Whether the answer comes as lines: a `PieceOfAnswer` each, then what it would be otherwise."""


class CompletionRequest(msgspec.Struct, frozen=True, tag="completion"):
    """Continue a text, and with `echo` tell its own tokens too; `in_pieces` as in a chat."""

    model: LocalModel
    prompt: str
    sampling: Sampling
    echo: bool = False
    in_pieces: bool = False


class RerankRequest(msgspec.Struct, frozen=True, tag="rerank"):
    """Score each item's relevance to a query."""

    model: LocalModel
    query: str
    items: list[str]


class LikelihoodRequest(msgspec.Struct, frozen=True, tag="likelihood"):
    """Tell how likely each continuation is after a context."""

    model: LocalModel
    context: str
    continuations: list[str]


Request = ChatRequest | CompletionRequest | RerankRequest | LikelihoodRequest


class GenerationAnswer(msgspec.Struct, frozen=True, tag="generation"):
    """Text and how it came to an end; counts are tokens. `num_prefilled_tokens` are those of the prompt that were read for
    it: none where another answer to the same prompt shared its reading."""

    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_generated_tokens: int
    num_prefilled_tokens: int = 0
    tokens: tuple[ChosenToken, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class PieceOfAnswer(msgspec.Struct, frozen=True, tag="piece"):
    """What has come of an answer since the last piece."""

    text: str
    tokens: tuple[ChosenToken, ...] = ()


class RerankAnswer(msgspec.Struct, frozen=True):
    """A finite score for each item, in the order of the items, and the indices of those that were too long to be read
    whole."""

    scores: list[float]
    truncated: list[int] = []


Answer = GenerationAnswer | RerankAnswer | Likelihoods


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """Why there is no answer."""

    status: int
    title: str
    detail: str
    pointer: str | None = None
    """Where in the client's body the fault is, if that is known here."""

    @classmethod
    def of(cls, error: PaddockError) -> Failure:
        errors = error.errors if isinstance(error, InvalidRequestError) else ()
        return cls(error.status, error.title, error.detail, errors[0].pointer if errors else None)

    def to_error(self) -> PaddockError:
        """The error that the engine process met, to be raised on this side."""
        if self.status == InvalidRequestError.status:
            return InvalidRequestError(self.detail, pointer=self.pointer)
        return _ERRORS.get(self.status, BackendError)(self.detail)


Line = PieceOfAnswer | GenerationAnswer | Failure
"""A line of an answer in pieces."""

_ERRORS: dict[int, type[PaddockError]] = {error.status: error for error in (BackendError, BackendTimeoutError)}

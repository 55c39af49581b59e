"""Calls of one model in an evaluation: what a failed call means for its row, and when the model itself is given up on.

A call that failed is the row's failure, or the row is left for a later attempt, as whoever evaluates says (`Leaves`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from paddock.errors import BackendError, BackendSetupError, BackendTimeoutError, InvalidRequestError, PaddockError
from paddock.inference.engine import Engine, Generation, Likelihoods, Message, Model, Sampling

NUM_CALLS_TO_GIVE_UP = 8
"""A model is given up on when so many calls in a row, or all there are, got no answer and their rows are left; or when
its first calls, so many or all there are, failed in the same way."""

T = TypeVar("T")

_CALL_ERRORS = (InvalidRequestError, BackendError, BackendTimeoutError)

Leaves = Callable[[PaddockError, bool], bool]
"""Whether the row of a call that met this error is left for a later attempt, instead of counting as failed; the second
argument is whether the model has ever answered."""


def leave_nothing(_error: PaddockError, _is_proven: bool) -> bool:
    """Where there is no later attempt."""
    return False


class CallError(Exception):
    """A model gave no answer to this call, which is its row's failure; the message says why."""


class RowLeftError(Exception):
    """A model gave no answer to this call, and its row is left for a later attempt."""


class Caller:
    """Calls of one model. A failed call is `CallError` or `RowLeftError`. Of a model that is given up on the engine's own
    error is raised: in a call, or at the end of the evaluation (`check`)."""

    def __init__(
        self, engine: Engine, model: Model, limit: asyncio.Semaphore, leaves: Leaves, *, is_proven: bool
    ) -> None:
        self._engine = engine
        self._model = model
        self._limit = limit
        self._leaves = leaves
        self._is_proven = is_proven
        """Whether the model has answered: from then on a failed call says nothing of the others."""
        self._errors: list[PaddockError] = []
        self._left_because: PaddockError | None = None
        self._num_left_in_a_row = 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The model's answer. Raises `CallError`, `RowLeftError`, or the engine's error when the model is given up on."""
        return await self._call(lambda: self._engine.chat(self._model, messages, sampling))

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """The model's continuation of a text. Raises as `chat` does."""
        return await self._call(lambda: self._engine.complete(self._model, prompt, sampling))

    async def log_likelihoods(self, context: str, continuations: Sequence[str]) -> Likelihoods:
        """How likely each continuation is after the context. Raises as `chat` does."""
        return await self._call(lambda: self._engine.log_likelihoods(self._model, context, continuations))

    async def rerank(self, query: str, items: Sequence[str]) -> list[float]:
        """The model's score of each item. Raises as `chat` does."""
        return (await self._call(lambda: self._engine.rerank(self._model, query, items))).scores

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with self._limit:
                answer = await call()
        except _CALL_ERRORS as error:
            if self._leaves(error, self._is_proven):
                self._leave(error)
                raise RowLeftError from None
            self._note(error)
            raise CallError(error.detail) from None
        self._is_proven = True
        self._num_left_in_a_row = 0
        return answer

    def check(self) -> None:
        """At the end: raise what kept rows from being answered, or the one error that all calls met."""
        if self._left_because is not None:
            raise self._reason(self._left_because)
        self._check_manner()

    def _leave(self, error: PaddockError) -> None:
        self._left_because = error
        self._num_left_in_a_row += 1
        if self._num_left_in_a_row >= NUM_CALLS_TO_GIVE_UP:
            raise self._reason(error)

    def _reason(self, error: PaddockError) -> PaddockError:
        """What to say of rows that are left. Settings with which the model has answered were not wrong: then it is an
        outage like others."""
        if isinstance(error, BackendSetupError) and self._is_proven:
            return BackendError(error.detail)
        return error

    def _note(self, error: PaddockError) -> None:
        if not self._is_proven:
            self._errors.append(error)
            if len(self._errors) >= NUM_CALLS_TO_GIVE_UP:
                self._check_manner()

    def _check_manner(self) -> None:
        """Raise the error that all calls so far met, if they all failed and in the same way."""
        if self._is_proven or not self._errors:
            return
        if len({_manner(error) for error in self._errors}) == 1:
            error = self._errors[-1]
            # The engine's pointers lead into the call. Of the request, it is rows, model and sampling together.
            raise InvalidRequestError(error.detail, pointer="") if isinstance(error, InvalidRequestError) else error
        self._is_proven = True  # it fails in different ways: these are the rows' failures, not the model's


def _manner(error: PaddockError) -> tuple[type[PaddockError], str]:
    """In which way a call failed: a server that is down may word each failure differently, a refusal is its words."""
    return type(error), error.detail if isinstance(error, InvalidRequestError) else ""

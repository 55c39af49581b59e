"""Requests that wait in the engine process, and which of them are worth doing together.

The event loop submits, one worker thread takes. What to do with a request is the worker's business; nothing here
knows of models or tensors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from paddock.errors import PaddockError
from paddock.inference.engine import ChosenToken, Piece
from paddock.inference.engine_messages import Answer, ChatRequest, LikelihoodRequest, Request, RerankRequest
from paddock.inference.local_models.model_files import ModelFiles

_SETTLE_SECONDS = 0.002
_MAX_SETTLE_SECONDS = 0.02
"""An idle engine waits so long for the rest of a burst, as long as it keeps growing, before it starts on the first."""

_CHARACTERS_OF_IMAGE = 2000
"""An image is some hundred tokens, roughly, whatever the length of its data."""


class Pieces:
    """What an answer's reader has yet to take. It is one piece however slow the reader: nothing piles up."""

    def __init__(self, notify: Callable[[], None]) -> None:
        """`notify` is called, in the worker's thread, when there is something to take."""
        self._notify = notify
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._tokens: list[ChosenToken] = []

    def put(self, text: str, tokens: Sequence[ChosenToken]) -> None:
        with self._lock:
            was_empty = not self._texts
            self._texts.append(text)
            self._tokens += tokens
        if was_empty:
            self._notify()

    def take(self) -> Piece | None:
        with self._lock:
            if not self._texts:
                return None
            piece = Piece("".join(self._texts), tuple(self._tokens))
            self._texts, self._tokens = [], []
            return piece


class Work:
    """One request and the promise of its answer. Cancelling the promise, at any time, is how a client leaves. `pieces` is
    there if the answer is to be read while it is made."""

    def __init__(self, request: Request, files: ModelFiles, pieces: Pieces | None = None) -> None:
        self.request = request
        self.files = files
        self.pieces = pieces
        self.answer: Future[Answer] = Future()
        self.scores: list[float] = []
        """Of a ranking: what is known by now, of the first items."""
        self.truncated: list[int] = []
        """The items among them that were too long for the model."""

    @property
    def is_abandoned(self) -> bool:
        return self.answer.cancelled()

    @property
    def is_rerank(self) -> bool:
        return isinstance(self.request, RerankRequest)

    @property
    def num_characters(self) -> int:
        """How long it is, roughly: texts of like length make batches with little padding."""
        request = self.request
        if isinstance(request, ChatRequest):
            return sum(map(_num_characters, request.messages))
        if isinstance(request, LikelihoodRequest):
            return len(request.context)
        return len(request.query) if isinstance(request, RerankRequest) else len(request.prompt)

    @property
    def num_items(self) -> int:
        return len(self.request.items) if isinstance(self.request, RerankRequest) else 1

    def fits(self, other: Work) -> bool:
        """Whether the two can be done together: by the same model, in the same way."""
        return self._manner == other._manner and self.request.model == other.request.model

    @property
    def _manner(self) -> tuple[bool, bool]:
        """Chats and completions are done in one way."""
        return self.is_rerank, isinstance(self.request, LikelihoodRequest)

    def finish(self, answer: Answer) -> None:
        with contextlib.suppress(InvalidStateError):  # the client left just now
            self.answer.set_result(answer)

    def fail(self, error: PaddockError) -> None:
        with contextlib.suppress(InvalidStateError):
            self.answer.set_exception(error)


def _num_characters(message: dict[str, Any]) -> int:
    content = message["content"] or ""
    if isinstance(content, str):
        return len(content)
    return sum(len(part["text"]) if part["type"] == "text" else _CHARACTERS_OF_IMAGE for part in content)


class Queue:
    """Waiting work in the order of its arrival."""

    def __init__(self, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._waiting: list[Work] = []
        self._changed = threading.Condition()

    def submit(self, work: Work) -> None:
        with self._changed:
            self._waiting.append(work)
            self._changed.notify()

    def take(self) -> list[Work]:
        """Wait for work; the oldest, with what fits it. Abandoned work is dropped."""
        with self._changed:
            while True:
                self._drop_abandoned()
                if self._waiting:
                    self._let_burst_settle()
                    self._drop_abandoned()
                    if self._waiting:
                        return self._remove(self._choose())
                self._changed.wait()

    def take_more(self, like: Work, limit: int) -> list[Work]:
        """What may join running work that is `like` these, at once: nothing, if something else has waited longest."""
        with self._changed:
            self._drop_abandoned()
            if limit <= 0 or not self._waiting or not self._waiting[0].fits(like):
                return []
            return self._remove([work for work in self._waiting if work.fits(like)][:limit])

    def has_other(self, like: Work) -> bool:
        """Whether anyone waits for something else."""
        with self._changed:
            self._drop_abandoned()
            return any(not work.fits(like) for work in self._waiting)

    def _let_burst_settle(self) -> None:
        deadline = time.monotonic() + _MAX_SETTLE_SECONDS
        num_seen = 0
        while num_seen < len(self._waiting) < self._max_batch_size and time.monotonic() < deadline:
            num_seen = len(self._waiting)
            self._changed.wait(_SETTLE_SECONDS)

    def _choose(self) -> list[Work]:
        """The oldest and its nearest in length: it is always among them, so nothing waits forever."""
        oldest = self._waiting[0]
        fitting = [work for work in self._waiting if work.fits(oldest)]
        fitting.sort(key=lambda work: abs(work.num_characters - oldest.num_characters))
        return fitting if oldest.is_rerank else fitting[: self._max_batch_size]

    def _remove(self, chosen: list[Work]) -> list[Work]:
        taken = {id(work) for work in chosen}
        self._waiting = [work for work in self._waiting if id(work) not in taken]
        return chosen

    def _drop_abandoned(self) -> None:
        self._waiting = [work for work in self._waiting if not work.is_abandoned]

"""Whose turn it is: the requests that wait for one reranker share its time, so that a small one is not held up by a large
one. What a score is, is the reranker's business; which requests come together, `queue`'s."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine_messages import RerankAnswer, RerankRequest
from paddock.inference.local_models.queue import Work

_ROUND_CHARACTERS = 32_768
"""Some thousand tokens are scored before the next look at who else waits, and who left; it bounds the memory, too."""

_TURN_SECONDS = 1.0
"""After so long, others may have the engine if they wait for it."""


class Pair(NamedTuple):
    """What is scored: how relevant the item is to the query."""

    query: str
    item: str


class Score(NamedTuple):
    """`is_truncated` tells that the model read only the beginning."""

    value: float
    is_truncated: bool


class Reranker(Protocol):
    """A model that scores."""

    def check(self, query: str) -> None:
        """Raise `InvalidRequestError` if nothing can be ranked by this query."""
        ...

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """A score for each pair, which depends on nothing but the pair."""
        ...


def rank(
    reranker: Reranker,
    works: list[Work],
    join: Callable[[], list[Work]],
    others_wait: Callable[[], bool],
) -> None:
    """Score the items of `works`, a share of each in turn, and of those that `join` brings meanwhile, which are put into
    the list. What is left in it at the end has to wait until the `others` had their turn."""
    started_at = time.monotonic()
    for work in works:
        _check(reranker, work)
    while True:
        works[:] = [work for work in works if not work.answer.done()]
        if not works or (time.monotonic() - started_at > _TURN_SECONDS and others_wait()):
            return
        _one_round(reranker, works)
        joining = join()
        for work in joining:
            _check(reranker, work)
        works += joining


def _check(reranker: Reranker, work: Work) -> None:
    try:
        reranker.check(_request(work).query)
    except InvalidRequestError as error:
        work.fail(error)


def _one_round(reranker: Reranker, works: list[Work]) -> None:
    share = _ROUND_CHARACTERS // len(works)
    parts = [_next_items(work, share) for work in works]
    pairs = [Pair(_request(work).query, item) for work, items in zip(works, parts, strict=True) for item in items]
    scores = iter(reranker.score(pairs))
    for work, items in zip(works, parts, strict=True):
        for _ in items:
            score = next(scores)
            if score.is_truncated:
                work.truncated.append(len(work.scores))
            work.scores.append(score.value)
        if len(work.scores) == work.num_items:
            _finish(work)


def _next_items(work: Work, num_characters: int) -> list[str]:
    """The next ones to score, at least one."""
    items: list[str] = []
    for item in _request(work).items[len(work.scores) :]:
        if items and num_characters < len(item):
            break
        items.append(item)
        num_characters -= len(item)
    return items


def _finish(work: Work) -> None:
    if all(map(math.isfinite, work.scores)):
        work.finish(RerankAnswer(work.scores, work.truncated))
    else:
        work.fail(BackendError("The model gave a score that is not a finite number; its weights may be damaged."))


def _request(work: Work) -> RerankRequest:
    assert isinstance(work.request, RerankRequest)
    return work.request

"""Turns: who is scored when, and that nothing is lost on the way. The reranker is a real Python function of a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine_messages import LocalModel, RerankAnswer, RerankRequest
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from paddock.inference.local_models.ranking import Pair, Score, rank

FILES = ModelFiles(Path("/nowhere"), {}, None)


class ByLength:
    """Longer items are more relevant, up to 1,000 characters. It notes its rounds."""

    def __init__(self) -> None:
        self.rounds: list[list[Pair]] = []

    def check(self, query: str) -> None:
        if not query:
            raise InvalidRequestError("Empty.", pointer="/query")

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        self.rounds.append(list(pairs))
        return [Score(min(len(p.item), 1000) / len(p.query), len(p.item) > 1000) for p in pairs]


def work(query: str, items: list[str]) -> Work:
    return Work(RerankRequest(LocalModel("model", "/m"), query, items), FILES)


def answer(work: Work) -> RerankAnswer:
    found = work.answer.result(timeout=0)
    assert isinstance(found, RerankAnswer)
    return found


def run(reranker: ByLength, works: list[Work]) -> None:
    rank(reranker, works, join=list, others_wait=lambda: False)


def test_scores_and_cuts_come_in_the_order_of_the_items() -> None:
    one = work("q", ["a", "x" * 1001, "bb"])
    run(ByLength(), [one])
    assert answer(one) == RerankAnswer([1.0, 1000.0, 2.0], [1])


def test_a_small_request_is_done_in_the_first_round() -> None:
    reranker, large, small = ByLength(), work("q", ["x" * 100] * 2000), work("qq", ["y"] * 3)
    works = [large, small]
    run(reranker, works)
    assert sum(pair.query == "qq" for pair in reranker.rounds[0]) == 3
    assert len(reranker.rounds) > 5
    assert answer(small).scores == [0.5] * 3
    assert answer(large).scores == [100.0] * 2000
    assert works == []


def test_an_item_longer_than_a_share_is_scored_too() -> None:
    works = [work("q", ["x" * 100_000, "y"]) for _ in range(3)]
    run(ByLength(), list(works))
    assert all(answer(each) == RerankAnswer([1000.0, 1.0], [0]) for each in works)


def test_those_who_come_later_join() -> None:
    reranker, first, late = ByLength(), work("q", ["x" * 1000] * 100), work("qq", ["y"])
    coming = [[late]]
    works = [first]
    rank(reranker, works, join=lambda: coming.pop() if coming else [], others_wait=lambda: False)
    assert answer(late).scores == [0.5]
    assert reranker.rounds[1][-1] == Pair("qq", "y")


def test_others_have_their_turn_and_what_is_done_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.inference.local_models.ranking._TURN_SECONDS", 0.0)
    reranker, large = ByLength(), work("q", ["x" * 1000] * 100)
    works, num_turns = [large], 0
    while works:
        asked = iter((False, True))  # a round, and then others wait
        rank(reranker, works, join=list, others_wait=lambda asked=asked: next(asked))
        num_turns += 1
    assert answer(large).scores == [1000.0] * 100
    assert sum(map(len, reranker.rounds)) == 100  # none was scored twice
    assert num_turns == 4


def test_who_left_costs_nothing() -> None:
    reranker, gone, stays = ByLength(), work("q", ["x"] * 10), work("q", ["y"])
    gone.answer.cancel()
    run(reranker, [gone, stays])
    assert reranker.rounds == [[Pair("q", "y")]]


def test_a_query_that_will_not_do_fails_alone() -> None:
    empty, fine = work("", ["a"]), work("q", ["a"])
    run(ByLength(), [empty, fine])
    with pytest.raises(InvalidRequestError):
        empty.answer.result(timeout=0)
    assert answer(fine).scores == [1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_finite_number_is_an_error(value: float) -> None:
    class Damaged(ByLength):
        def score(self, pairs: Sequence[Pair]) -> list[Score]:
            return [Score(value if pair.item == "a" else 1.0, False) for pair in pairs]

    bad, good = work("q", ["a", "b"]), work("q", ["b"])
    run(Damaged(), [bad, good])
    with pytest.raises(BackendError, match="not a finite number"):
        bad.answer.result(timeout=0)
    assert answer(good).scores == [1.0]

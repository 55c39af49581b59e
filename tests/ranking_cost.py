"""What it costs in ranking quality to compute a reranker's scores less exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paddock.inference.local_models.ranking import Pair
from passages import PassageSet

Scores = Callable[[list[Pair]], list[float]]

_DEPTH = 10


@dataclass(frozen=True)
class RankingCost:
    """Over some queries: how far scores lie from the exact ones, how many queries keep their first item, the share of the
    ten first items that stays among them, how far below the exact tenth score an item among the ten lies, and the mean
    nDCG@10 (Järvelin & Kekäläinen 2002; one item is relevant, to degree 1) of both."""

    num_queries: int
    max_error: float
    mean_error: float
    num_same_first: int
    shared_top_ten: float
    max_gap: float
    exact_ndcg: float
    ndcg: float


def ranking_cost(exact: Scores, other: Scores, sets: Sequence[PassageSet], *, num_items: int) -> RankingCost:
    """`other` beside `exact`, on the queries of `sets`, each with its own passages and others', `num_items` in all."""
    passages = [passage for each in sets for passage in each.passages]
    errors, same_first, shared, gaps, ndcgs = [], 0, [], [], []
    for number, each in enumerate(sets):
        start = passages.index(each.passages[0])
        items = [passages[(start + offset) % len(passages)] for offset in range(num_items)]
        # The right one stands at another place for each query.
        items = items[number % num_items :] + items[: number % num_items]
        pairs = [Pair(each.query, item) for item in items]
        expected, found = np.array(exact(pairs)), np.array(other(pairs))
        ranking, ranking_found = (np.argsort(-scores, kind="stable")[:_DEPTH] for scores in (expected, found))
        errors.append(abs(found - expected))
        same_first += int(ranking[0] == ranking_found[0])
        shared.append(len(set(ranking) & set(ranking_found)) / _DEPTH)
        gaps.append(expected[ranking[-1]] - expected[ranking_found].min())
        right = items.index(each.right)
        ndcgs.append((_ndcg(ranking, right), _ndcg(ranking_found, right)))
    exact_ndcg, ndcg = np.mean(ndcgs, axis=0)
    return RankingCost(
        num_queries=len(sets),
        max_error=float(np.max(errors)),
        mean_error=float(np.mean(errors)),
        num_same_first=same_first,
        shared_top_ten=float(np.mean(shared)),
        max_gap=float(max(gaps)),
        exact_ndcg=float(exact_ndcg),
        ndcg=float(ndcg),
    )


def _ndcg(ranking: np.ndarray, right: int) -> float:
    places = np.flatnonzero(ranking == right)
    return 1 / math.log2(2 + places[0]) if len(places) else 0.0

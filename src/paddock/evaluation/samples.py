"""Several answers to one row: sample s of row i of n samples each is stored as result i·n + s, so that each is durable on
its own; and pass@k, the probability that of k answers at least one is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paddock.evaluation.result_store import ResultStore
from paddock.evaluation.scoring.aggregation import Aggregator
from paddock.evaluation.scoring.function import Score
from paddock.evaluation.statistics import means
from paddock.wire import from_json

KEY = "samples"
"""Where a row's generation and score row keep those of its samples."""


def generation_of(samples: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A row's generation: its only one, or the first with all of them."""
    if len(samples) == 1:
        return samples[0]
    shown = {name: samples[0][name] for name in ("generated_answer", "error") if name in samples[0]}
    return {**shown, KEY: list(samples)}


def score_of(samples: Sequence[Score]) -> Score:
    """A row's score: its only one, or the mean of its samples', in words the most frequent one, with all of them. Samples
    that failed are in no mean; a row fails when all of them did."""
    if len(samples) == 1:
        return samples[0]
    scores = [sample["score"] for sample in samples if sample["score"] is not None]
    row: Score = {"score": None}
    if not scores:
        row["error"] = samples[0].get("error")
    elif all(isinstance(score, int | float) for score in scores):
        row["score"] = math.fsum(scores) / len(scores)
    else:
        row["score"] = Counter(scores).most_common(1)[0][0]
    row |= {name: samples[0][name] for name in ("weight", "cluster") if name in samples[0]}
    return row | {KEY: list(samples)}


def aggregate(aggregator: Aggregator, row_index: int, samples: Sequence[Score]) -> None:
    """Take a row's scores in. Several samples of one row resemble each other: they are a cluster, unless the row is part of
    a larger one."""
    for sample in samples:
        is_alone = len(samples) == 1 or "cluster" in sample
        aggregator.add(sample if is_alone else {**sample, "cluster": f"row {row_index}"})


def row_scores(results: ResultStore, job_id: str, function_id: str, start: int, end: int, n: int) -> dict[int, Score]:
    """Row index → its score, from `start` up to `end`, of rows with `n` samples each that are all scored."""
    texts = results.score_texts(job_id, function_id, start * n, end * n)
    return {
        row: score_of([from_json(texts[index]) for index in range(row * n, row * n + n)])
        for row in range(start, end)
        if all(index in texts for index in range(row * n, row * n + n))
    }


class PassAtK:
    """Takes in the samples of one row after the other, and tells the mean pass@k.

    Of n samples that were scored, c of them right (a score of exactly 1), pass@k is 1 − C(n−c, k) / C(n, k), which is
    unbiased. Source: Chen et al. 2021, "Evaluating large language models trained on code", arXiv:2107.03374, section 2.1."""

    def __init__(self, ks: Sequence[int]) -> None:
        self._values: dict[int, list[float]] = {k: [] for k in ks}
        self._clusters: dict[int, list[str | None]] = {k: [] for k in ks}
        self._num_rows = 0

    def add(self, samples: Sequence[Score]) -> None:
        """Count a row. For a k of more samples than were scored it has failed."""
        self._num_rows += 1
        scores = [sample["score"] for sample in samples if isinstance(sample["score"], int | float)]
        num_right = sum(score == 1 for score in scores)
        for k, values in self._values.items():
            if len(scores) >= k:
                values.append(pass_at_k(len(scores), num_right, k))
                self._clusters[k].append(samples[0].get("cluster"))

    def results(self) -> dict[str, dict[str, Any]]:
        """`{"pass@k": {…}}` for each k, in the shape of the other aggregations."""
        return {f"pass@{k}": self._result(k) for k in self._values}

    def _result(self, k: int) -> dict[str, Any]:
        values, clusters = self._values[k], self._clusters[k]
        has_clusters = any(cluster is not None for cluster in clusters)
        estimate = means.mean(values, clusters if has_clusters else None) if values else None
        interval = None if estimate is None else estimate.interval
        return {
            f"pass@{k}": estimate and estimate.value,
            "stderr": estimate and estimate.stderr,
            "ci95": None if interval is None else list(interval),
            "num_total": self._num_rows,
            "num_scored": len(values),
            "num_failed": self._num_rows - len(values),
        }


def pass_at_k(n: int, num_right: int, k: int) -> float:
    """The unbiased estimate from `n` samples, `num_right` of them right, of the probability that one of `k` is."""
    return 1 - math.comb(n - num_right, k) / math.comb(n, k)

"""Means and proportions of rows that come in clusters, against formulas written out."""

from __future__ import annotations

import math

import pytest

from paddock.evaluation.schemas import AggregationFunctionType
from paddock.evaluation.scoring.aggregation import Aggregator
from paddock.evaluation.statistics import distributions, intervals, means

VALUES = [1.0, 2.0, 4.0, 4.5, 0.0, 3.0]
CLUSTERS = ["a", "a", "b", "b", "c", None]


def test_rows_that_are_their_own_clusters_are_independent() -> None:
    plain, alone, named = means.mean(VALUES), means.mean(VALUES, [None] * 6), means.mean(VALUES, list("uvwxyz"))
    assert plain == alone == named
    assert plain.num_degrees == 5
    # scipy.stats.sem(VALUES)
    assert plain.stderr == pytest.approx(0.7120003121097942)


def test_a_clustered_mean() -> None:
    found = means.mean(VALUES, CLUSTERS)
    m = 14.5 / 6
    totals = [(1 - m) + (2 - m), (4 - m) + (4.5 - m), 0 - m, 3 - m]
    stderr = math.sqrt(4 / 3 * sum(total**2 for total in totals)) / 6
    assert (found.value, found.stderr, found.num_degrees) == (pytest.approx(m), pytest.approx(stderr), 3)
    t = distributions.student_t_quantile(0.975, 3)
    assert found.interval == pytest.approx((m - t * stderr, m + t * stderr))
    assert means.num_clusters(CLUSTERS) == 4


def test_ten_copies_of_a_row_tell_no_more_than_the_row() -> None:
    copies = means.mean([value for value in VALUES for _ in range(10)], [i for i in range(6) for _ in range(10)])
    once = means.mean(VALUES)
    assert (copies.value, copies.stderr) == (pytest.approx(once.value), pytest.approx(once.stderr))
    assert copies.interval == pytest.approx(once.interval)


def test_a_clustered_share_is_worth_fewer_rows() -> None:
    right = [True, True, True, False, True, True, False, False]
    plain = means.proportion(right)
    assert plain.interval == intervals.wilson(5, 8)
    pairs = [index // 2 for index in range(8)]
    clustered = means.proportion(right, pairs)
    assert clustered.value == plain.value == 0.625
    assert clustered.stderr is not None
    shrink = distributions.normal_quantile(0.975) / distributions.student_t_quantile(0.975, 3)
    worth = 0.625 * 0.375 / clustered.stderr**2 * shrink**2
    assert worth < 8
    assert clustered.interval == intervals.wilson(0.625 * worth, worth)


def test_all_right_in_few_clusters_is_worth_those_clusters() -> None:
    assert means.proportion([True] * 30, [i // 10 for i in range(30)]).interval == intervals.wilson(3, 3)


def test_aggregation_takes_clusters_from_the_score_rows() -> None:
    functions = [AggregationFunctionType(name) for name in ("accuracy", "average", "weighted_average", "median")]
    aggregator = Aggregator(functions)
    for value, cluster in zip(VALUES, CLUSTERS, strict=True):
        aggregator.add({"score": value} | ({} if cluster is None else {"cluster": cluster}))
    found = aggregator.results()
    expected = means.mean(VALUES, CLUSTERS)
    assert expected.interval is not None
    assert found["average"]["ci95"] == list(expected.interval)
    assert found["weighted_average"]["ci95"] == pytest.approx(list(expected.interval))
    assert found["median"]["ci95"] is None
    assert {result["num_clusters"] for result in found.values()} == {4}


def test_scores_that_are_all_alike_have_no_interval_unless_they_are_right_or_wrong() -> None:
    assert means.mean([3.0] * 50).interval is None
    aggregator = Aggregator([AggregationFunctionType.AVERAGE])
    for _ in range(50):
        aggregator.add({"score": 1.0})
    assert aggregator.results()["average"]["ci95"] == list(intervals.wilson(50, 50))

"""Means and proportions of rows that may come in clusters (several questions on one text, several samples of one
question): rows of one cluster resemble each other, so n of them tell less than n that do not.

Means are ratio estimates Σwx / Σw with the standard error of the sampled clusters' totals (Cochran, "Sampling
Techniques", 3rd ed., 1977, chapters 6 and 9A), which for rows that are clusters of their own is s/√n.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from paddock.evaluation.statistics import distributions, intervals
from paddock.evaluation.statistics.intervals import CONFIDENCE, Interval

Clusters = Sequence[Hashable | None]
"""Which cluster each value belongs to; None is one of its own."""


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is. `num_degrees` are those that its standard error was estimated with."""

    value: float
    stderr: float | None
    interval: Interval | None
    num_degrees: int


def mean(values: Sequence[float], clusters: Clusters | None = None, weights: Sequence[float] | None = None) -> Estimate:
    """Σwx / Σw of at least one value, weights summing to more than 0; Student's t interval with one degree of freedom
    less than there are clusters. Below two clusters there is neither standard error nor interval; nor is there an
    interval where all clusters are alike, for then nothing is known of how they vary."""
    if weights is None:
        total = float(len(values))
        value = math.fsum(values) / total
        residuals = [x - value for x in values]
    else:
        total = math.fsum(weights)
        value = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / total
        residuals = [w * (x - value) for w, x in zip(weights, values, strict=True)]
    if clusters is not None:
        residuals = _totals(residuals, clusters)
    n = len(residuals)
    if n < 2:
        return Estimate(value, None, None, 0)
    stderr = math.sqrt(n / (n - 1) * math.fsum(r * r for r in residuals)) / total
    return Estimate(value, stderr, intervals.student_t(value, stderr, n - 1) if stderr > 0 else None, n - 1)


def proportion(successes: Sequence[bool], clusters: Clusters | None = None) -> Estimate:
    """The share of successes among at least one; Wilson's interval.

    With clusters it is Wilson's for as many independent rows as the clustered ones are worth: p(1-p) over the squared
    standard error, less what the t distribution of few clusters asks for (E. L. Korn and B. I. Graubard, Survey
    Methodology 24 (1998)), and never more than there are. Where all rows are alike they are worth one a cluster."""
    estimate = mean([float(success) for success in successes], clusters)
    if estimate.stderr is None:
        return estimate
    n, share = len(successes), estimate.value
    worth: float = n
    if clusters is not None:
        worth = estimate.num_degrees + 1
        if estimate.stderr > 0:
            at = 0.5 + CONFIDENCE / 2
            shrink = distributions.normal_quantile(at) / distributions.student_t_quantile(at, estimate.num_degrees)
            worth = min(n, share * (1 - share) / estimate.stderr**2 * shrink**2)
    interval = intervals.wilson(sum(successes) if worth == n else share * worth, worth)
    return Estimate(share, estimate.stderr, interval, estimate.num_degrees)


def num_clusters(clusters: Clusters) -> int:
    """How many there are; each None is one."""
    named = {cluster for cluster in clusters if cluster is not None}
    return len(named) + sum(cluster is None for cluster in clusters)


def _totals(residuals: Sequence[float], clusters: Clusters) -> list[float]:
    alone: list[float] = []
    of_cluster: dict[Hashable, list[float]] = {}
    for residual, cluster in zip(residuals, clusters, strict=True):
        (alone if cluster is None else of_cluster.setdefault(cluster, [])).append(residual)
    return alone + [math.fsum(members) for members in of_cluster.values()]

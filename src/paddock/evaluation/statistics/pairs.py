"""Two models on the same rows: what is compared is the difference on each row, which tells far more than two scores side by
side, for rows that are hard are hard for both.

McNemar's test: Q. McNemar, Psychometrika 12 (1947); exact and mid-p as in M. W. Fagerland, S. Lydersen and P. Laake, BMC
Medical Research Methodology 13:91 (2013). The interval of a difference of paired proportions: D. G. Bonett and R. M. Price,
Journal of Educational and Behavioral Statistics 37 (2012), as recommended by Fagerland, Lydersen and Laake, Statistics in
Medicine 33 (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from paddock.evaluation.statistics import distributions, means
from paddock.evaluation.statistics.intervals import CONFIDENCE, Interval
from paddock.evaluation.statistics.means import Clusters, Estimate

POWER = 0.8


class McNemar(NamedTuple):
    """Two-sided p-values of the hypothesis that neither of two models is right more often. `p_exact` never rejects too
    often; `p_mid` comes closer to what it says, from above now and then (docs/decisions/0006-mid-p-mcnemar.md)."""

    p_exact: float
    p_mid: float


def mcnemar(num_only_first: int, num_only_second: int) -> McNemar:
    """From the rows on which just one of the two is right; the others say nothing about which is better."""
    n, fewer = num_only_first + num_only_second, min(num_only_first, num_only_second)
    if n == 0:
        return McNemar(1.0, 1.0)
    tail = 2 * distributions.binomial_cdf(fewer, n, 0.5)
    return McNemar(min(1.0, tail), min(1.0, tail - distributions.binomial_half_pmf(fewer, n)))


def difference(first: Sequence[float], second: Sequence[float], clusters: Clusters | None = None) -> Estimate:
    """The mean of second - first over at least one pair, with Student's t interval."""
    return means.mean([b - a for a, b in zip(first, second, strict=True)], clusters)


def difference_of_proportions(num_only_first: int, num_only_second: int, num_pairs: int) -> Interval:
    """The interval of the second's share of right answers less the first's (Bonett and Price, equation 4): Wald's with
    one pair added to either side, cut at -1 and 1. For independent pairs, at least one."""
    n = num_pairs + 2
    first, second = (num_only_first + 1) / n, (num_only_second + 1) / n
    half = distributions.normal_quantile(0.5 + CONFIDENCE / 2) * math.sqrt((first + second - (second - first) ** 2) / n)
    return Interval(max(-1.0, second - first - half), min(1.0, second - first + half))


def p_value(estimate: Estimate) -> float | None:
    """Two-sided, of the hypothesis that the difference is 0, by Student's t; None where it cannot be told: of a single
    difference, or of several that are all alike and not 0."""
    if not estimate.stderr:
        return 1.0 if estimate.stderr == 0 and estimate.value == 0 else None
    return distributions.student_t_tails(estimate.value / estimate.stderr, estimate.num_degrees)


def smallest_detectable(stderr: float) -> float:
    """The true difference that a comparison with this standard error finds with the probability `POWER`, at 5 %
    two-sided: (z₀.₉₇₅ + z₀.₈) · SE. What is smaller needs more rows."""
    z = distributions.normal_quantile(0.5 + CONFIDENCE / 2) + distributions.normal_quantile(POWER)
    return z * stderr

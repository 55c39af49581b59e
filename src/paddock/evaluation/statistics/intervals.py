"""Confidence intervals of single figures.

Proportions: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927),
without continuity correction, as recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001); and the exact one
of C. J. Clopper and E. S. Pearson, Biometrika 26 (1934). Means: Student's t. Medians: order statistics, David and
Nagaraja, "Order Statistics" (3rd ed., 2003), section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from paddock.evaluation.statistics import distributions

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(num_successes: float, num_trials: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a proportion; `num_trials` > 0. Neither need be whole: of rows that depend on each
    other they are what as many independent ones would come to."""
    z = distributions.normal_quantile(0.5 + confidence / 2)
    proportion = num_successes / num_trials
    shrink = 1 + z * z / num_trials
    centre = (proportion + z * z / (2 * num_trials)) / shrink
    half = z * math.sqrt(proportion * (1 - proportion) / num_trials + z * z / (4 * num_trials**2)) / shrink
    # At the ends the formula gives exactly 0 and 1; rounding must not say otherwise.
    low = 0.0 if num_successes == 0 else max(0.0, centre - half)
    high = 1.0 if num_successes == num_trials else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson(num_successes: int, num_trials: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval for a proportion: it never covers less than it says, and mostly more; `num_trials` ≥ 1."""
    k, n, outside = num_successes, num_trials, (1 - confidence) / 2
    low = 0.0 if k == 0 else distributions.beta_quantile(outside, k, n - k + 1)
    high = 1.0 if k == n else distributions.beta_quantile(1 - outside, k + 1, n - k)
    return Interval(low, high)


def student_t(mean: float, stderr: float, num_degrees: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a mean whose standard error was estimated with `num_degrees` ≥ 1 degrees of freedom."""
    half = distributions.student_t_quantile(0.5 + confidence / 2, num_degrees) * stderr
    return Interval(mean - half, mean + half)


def median(ordered: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The interval between two order statistics that holds the median with at least `confidence`, whatever the
    distribution; None where there are too few values for one (below 6 at 95 %)."""
    n = len(ordered)
    # The k-th smallest value is above the median with probability P(Binomial(n, 1/2) < k): take the largest k for
    # which that is at most half of what may go wrong.
    low, high = 0, n // 2 + 1
    while high - low > 1:
        k = (low + high) // 2
        if distributions.binomial_cdf(k - 1, n, 0.5) <= (1 - confidence) / 2:
            low = k
        else:
            high = k
    return Interval(ordered[low - 1], ordered[n - low]) if low > 0 else None

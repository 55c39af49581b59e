"""Confidence intervals and the quantiles behind them, in plain Python: the server carries no numerical library.

Proportions: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927),
without continuity correction, as recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001).
Means: Student's t. Medians: order statistics, David and Nagaraja, "Order Statistics" (3rd ed., 2003), section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(num_successes: int, num_trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a proportion; `num_trials` ≥ 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    proportion = num_successes / num_trials
    shrink = 1 + z * z / num_trials
    centre = (proportion + z * z / (2 * num_trials)) / shrink
    half = z * math.sqrt(proportion * (1 - proportion) / num_trials + z * z / (4 * num_trials**2)) / shrink
    # At the ends the formula gives exactly 0 and 1; rounding must not say otherwise.
    low = 0.0 if num_successes == 0 else max(0.0, centre - half)
    high = 1.0 if num_successes == num_trials else min(1.0, centre + half)
    return Interval(low, high)


def student_t(mean: float, stderr: float, num_degrees: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a mean whose standard error was estimated with `num_degrees` ≥ 1 degrees of freedom."""
    half = student_t_quantile(0.5 + confidence / 2, num_degrees) * stderr
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
        if binomial_half_cdf(k - 1, n) <= (1 - confidence) / 2:
            low = k
        else:
            high = k
    return Interval(ordered[low - 1], ordered[n - low]) if low > 0 else None


def binomial_half_cdf(k: int, n: int) -> float:
    """P(Binomial(n, 1/2) ≤ k), for 0 ≤ k < n."""
    return incomplete_beta(n - k, k + 1, 0.5)


@lru_cache(maxsize=1024)
def student_t_quantile(probability: float, num_degrees: int) -> float:
    """The quantile of Student's t distribution for 1/2 < `probability` < 1, to nine digits or more.

    P(T > t) = I_x(v/2, 1/2) / 2 with x = v / (v + t²) (Abramowitz and Stegun 26.7.1), solved for t by bisection."""
    tail = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while _two_sided_tail(high, num_degrees) > tail:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _two_sided_tail(middle, num_degrees) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _two_sided_tail(t: float, num_degrees: int) -> float:
    return incomplete_beta(num_degrees / 2, 0.5, num_degrees / (num_degrees + t * t))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a, b > 0 and 0 ≤ x ≤ 1.

    By its continued fraction (DLMF 8.17.22), which converges fast below the mean; above it by the symmetry
    I_x(a, b) = 1 - I_{1-x}(b, a) (DLMF 8.17.4)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _beta_fraction(a, b, x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)) of DLMF 8.17.23, by Lentz's method as Thompson and Barnett modified it (1986)."""
    tiny = 1e-300
    value = c = 1.0
    d = 0.0
    for m in range(1, 100_000):
        half, odd = divmod(m, 2)
        if odd:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value

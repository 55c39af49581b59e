"""Quantiles and tails of the normal, Student's t and binomial distributions, to nine digits or more."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()


def normal_quantile(probability: float) -> float:
    """The standard normal quantile, for 0 < `probability` < 1."""
    return _NORMAL.inv_cdf(probability)


@lru_cache(maxsize=1024)
def student_t_quantile(probability: float, num_degrees: int) -> float:
    """The quantile of Student's t distribution for 1/2 < `probability` < 1.

    The two-sided tail is solved for t by bisection."""
    tail = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while student_t_tails(high, num_degrees) > tail:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if student_t_tails(middle, num_degrees) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_t_tails(t: float, num_degrees: int) -> float:
    """P(|T| > |t|) = I_x(v/2, 1/2) with x = v / (v + t²) (Abramowitz and Stegun 26.7.1)."""
    return incomplete_beta(num_degrees / 2, 0.5, num_degrees / (num_degrees + t * t))


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) ≤ k) (DLMF 8.17.5), for 0 ≤ p ≤ 1."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else incomplete_beta(n - k, k + 1, 1 - p)


def binomial_half_pmf(k: int, n: int) -> float:
    """P(Binomial(n, 1/2) = k), for 0 ≤ k ≤ n."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The quantile of the beta distribution, by bisection, for a, b > 0."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


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

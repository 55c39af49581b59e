"""p-values of several comparisons at once, adjusted so that each may still be held against 5 %."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate


def holm(p_values: Sequence[float]) -> list[float]:
    """S. Holm, Scandinavian Journal of Statistics 6 (1979): bounds the chance that any true hypothesis is rejected."""
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    adjusted = accumulate((min(1.0, (m - rank) * p_values[i]) for rank, i in enumerate(order)), max)
    return _in_place(order, list(adjusted))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Y. Benjamini and Y. Hochberg, JRSS B 57 (1995): bounds the expected share of true hypotheses among those that are
    rejected, for independent or positively dependent tests."""
    m = len(p_values)
    order = sorted(range(m), key=lambda i: -p_values[i])
    adjusted = accumulate((min(1.0, m / (m - rank) * p_values[i]) for rank, i in enumerate(order)), min)
    return _in_place(order, list(adjusted))


ADJUSTMENTS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "benjamini-hochberg": benjamini_hochberg,
}


def _in_place(order: Sequence[int], values: Sequence[float]) -> list[float]:
    placed = [0.0] * len(order)
    for index, value in zip(order, values, strict=True):
        placed[index] = value
    return placed

"""How often the intervals and tests that Paddock gives hold: `make coverage-sim`.

Proportions and McNemar's test by exact enumeration, means, clustered means and judges' corrected scores by simulation, with
the naive interval beside ours. What is called is the code that evaluation calls. The tests run a small part of it
(`tests/unit/evaluation/statistics/test_coverage.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from paddock.evaluation.statistics import intervals, judge_correction, means, pairs
from paddock.evaluation.statistics.intervals import Interval
from paddock.evaluation.statistics.judge_correction import Calibration

DESIGNS = [(n, share) for n in (200, 400, 1000) for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9) if n * share >= 100]
"""Numbers of pairs, and the shares of them that are discordant, with 100 discordant pairs expected or more."""

TRUE_SHARES = np.round(np.arange(0.05, 0.985, 0.01), 2)


@dataclass(frozen=True)
class Cell:
    """How often one interval held (or one test rejected), and the naive way on the same data."""

    name: str
    share: float
    naive: float | None = None


# ---------------------------------------------------------------------------------------------------- exact enumeration


def proportion_coverage(interval: Callable[[int, int], Interval], n: int) -> np.ndarray:
    """P(the interval holds p) for each of `TRUE_SHARES`, summed over all outcomes of n trials."""
    ends = np.array([interval(k, n) for k in range(n + 1)])
    holds = (ends[:, :1] <= TRUE_SHARES) & (ends[:, 1:] >= TRUE_SHARES)
    probabilities = stats.binom.pmf(np.arange(n + 1)[:, None], n, TRUE_SHARES)
    return np.asarray((holds * probabilities).sum(axis=0))


@cache
def mcnemar_rejections(num_discordant: int) -> tuple[float, float]:
    """P(rejected at 5 %) of two models that are equally good: by the exact test, by mid-p."""
    found = [pairs.mcnemar(k, num_discordant - k) for k in range(num_discordant + 1)]
    probabilities = stats.binom.pmf(np.arange(num_discordant + 1), num_discordant, 0.5)
    exact = probabilities[[test.p_exact <= 0.05 for test in found]].sum()
    return float(exact), float(probabilities[[test.p_mid <= 0.05 for test in found]].sum())


def attainable_rejections(num_discordant: int) -> np.ndarray:
    """P(rejected) of every test that treats two models alike and draws no lots: it rejects where the worse one is right
    alone on a pairs or fewer, for each a below half. No such test has a rate between two of these."""
    return np.asarray(2 * stats.binom.cdf(np.arange((num_discordant + 1) // 2), num_discordant, 0.5))


def mcnemar_rejections_of_pairs(num_pairs: int, share_discordant: float) -> tuple[float, float]:
    """P(rejected at 5 %) of two equally good models before it is known how many pairs are discordant: the conditional rates
    of `mcnemar_rejections`, weighted by how likely each number is."""
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], num_pairs, share_discordant).astype(int)
    counts = np.arange(low, high + 1)
    rates = np.array([mcnemar_rejections(int(count)) for count in counts])
    exact, mid_p = stats.binom.pmf(counts, num_pairs, share_discordant) @ rates
    return float(exact), float(mid_p)


# ---------------------------------------------------------------------------------------------------- simulation


def mean_coverage(draw: Callable[[int], np.ndarray], truth: float, num_runs: int) -> float:
    """Of the intervals of `num_runs` means. `draw(count)` gives that many samples, a row each."""
    num_held = 0
    for samples in _chunks(draw, num_runs):
        for values in samples.tolist():
            interval = means.mean(values).interval
            num_held += interval is not None and interval.low <= truth <= interval.high
    return num_held / num_runs


def clustered_coverage(
    rng: np.random.Generator, num_clusters: int, sizes: Sequence[int], icc: float, num_runs: int
) -> tuple[float, float]:
    """Of the interval that knows of clusters, and of the one that does not: normal scores of mean 0 whose correlation
    within a cluster is `icc`."""
    clusters = [index for index in range(num_clusters) for _ in range(sizes[index % len(sizes)])]

    def draw(count: int) -> np.ndarray:
        shared = rng.normal(0, np.sqrt(icc), (count, num_clusters))[:, clusters]
        return shared + rng.normal(0, np.sqrt(1 - icc), shared.shape)

    held = [0, 0]
    for samples in _chunks(draw, num_runs):
        for values in samples.tolist():
            for way, interval in enumerate((means.mean(values, clusters).interval, means.mean(values).interval)):
                held[way] += interval is not None and interval.low <= 0 <= interval.high
    return held[0] / num_runs, held[1] / num_runs


def clustered_share_coverage(
    rng: np.random.Generator, num_clusters: int, size: int, share: float, icc: float, num_runs: int
) -> tuple[float, float]:
    """The same of a share of right answers, beta-binomial within clusters."""
    clusters = [index for index in range(num_clusters) for _ in range(size)]
    spread = 1 / icc - 1

    def draw(count: int) -> np.ndarray:
        of_cluster = rng.beta(share * spread, (1 - share) * spread, (count, num_clusters))[:, clusters]
        return rng.random(of_cluster.shape) < of_cluster

    held = [0, 0]
    for samples in _chunks(draw, num_runs):
        for right in samples.tolist():
            for way, found in enumerate((means.proportion(right, clusters), means.proportion(right))):
                assert found.interval is not None
                held[way] += found.interval.low <= share <= found.interval.high
    return held[0] / num_runs, held[1] / num_runs


def judge_coverage(
    rng: np.random.Generator,
    truth: float,
    rates: tuple[float, float],
    num_judged: int,
    num_calibrated: int,
    num_runs: int,
) -> tuple[float, float]:
    """Of a judge's corrected score, and of its raw one. `rates` are sensitivity and specificity, `num_calibrated` the
    good and the bad answers, each, that they are measured on."""
    sensitivity, specificity = rates
    num_yes = rng.binomial(num_judged, truth * sensitivity + (1 - truth) * (1 - specificity), num_runs).tolist()
    num_good = rng.binomial(num_calibrated, sensitivity, num_runs).tolist()
    num_bad = rng.binomial(num_calibrated, specificity, num_runs).tolist()
    held = [0, 0]
    for yes, good, bad in zip(num_yes, num_good, num_bad, strict=True):
        calibration = Calibration(num_calibrated, good, num_calibrated, bad)
        corrected = judge_correction.interval(yes, num_judged, calibration)
        held[0] += corrected is not None and corrected.low <= truth <= corrected.high
        raw = intervals.wilson(yes, num_judged)
        held[1] += raw.low <= truth <= raw.high
    return held[0] / num_runs, held[1] / num_runs


def _chunks(draw: Callable[[int], np.ndarray], num_runs: int, size: int = 500) -> Iterator[np.ndarray]:
    for start in range(0, num_runs, size):
        yield draw(min(size, num_runs - start))


# ---------------------------------------------------------------------------------------------------- the whole


def wilson_cells(counts: Sequence[int]) -> Iterator[Cell]:
    coverage = np.array([proportion_coverage(intervals.wilson, n) for n in counts])
    yield Cell(f"Wilson, n {counts[0]} to {counts[-1]}, mean", float(coverage.mean()))
    yield Cell("Wilson, its worst cell", float(coverage.min()))


def exact_cells(counts: Sequence[int]) -> Iterator[Cell]:
    coverage = np.array([proportion_coverage(intervals.clopper_pearson, n) for n in counts])
    yield Cell(f"Clopper and Pearson, n {', '.join(map(str, counts))}, its worst cell", float(coverage.min()))


def mcnemar_cells(counts: Sequence[int]) -> Iterator[Cell]:
    rates = np.array([mcnemar_rejections(n) for n in counts])
    yield Cell(f"McNemar exact rejects, {counts[0]} to {counts[-1]} discordant pairs, most", float(rates[:, 0].max()))
    many = {n: rate for n, rate in zip(counts, rates[:, 1], strict=True) if n >= 100}
    yield Cell("McNemar mid-p rejects, from 100 discordant pairs, least", min(many.values()))
    yield Cell("McNemar mid-p rejects, from 100 discordant pairs, most", max(many.values()))
    yield Cell("McNemar mid-p rejects, from 100 discordant pairs, mean", float(np.mean(list(many.values()))))
    for n in (n for n, rate in many.items() if not 0.04 <= rate <= 0.06):
        attainable = attainable_rejections(n)
        greater = attainable[attainable > many[n] + 1e-9]  # the same rate, summed in another order, is not greater
        yield Cell(f"McNemar mid-p rejects, {n} discordant pairs", many[n])
        yield Cell("  the next greater rate of any symmetric test there", float(greater.min()))


def mcnemar_of_pairs_cells(designs: Sequence[tuple[int, float]]) -> Iterator[Cell]:
    rates = [mcnemar_rejections_of_pairs(*design)[1] for design in designs]
    name = f"McNemar mid-p rejects, {len(designs)} designs with 100 discordant pairs expected or more"
    yield Cell(f"{name}, least", min(rates))
    yield Cell(f"{name}, most", max(rates))


def simulated_cells(seed: int, num_runs: int) -> Iterator[Cell]:
    """At `num_runs` runs a cell the standard error of a coverage of 95 % is √(0.95 · 0.05 / num_runs)."""
    rng = np.random.default_rng(seed)
    grades = rng.choice
    for n in (30, 100, 300):
        yield Cell(f"mean of normal scores, n {n}", mean_coverage(lambda c, n=n: rng.normal(0, 1, (c, n)), 0, num_runs))
        yield Cell(
            f"mean of grades 1 to 5, n {n}",
            mean_coverage(
                lambda c, n=n: grades([1.0, 2, 3, 4, 5], (c, n), p=[0.05, 0.1, 0.2, 0.35, 0.3]), 3.75, num_runs
            ),
        )
        yield Cell(f"mean of shares, n {n}", mean_coverage(lambda c, n=n: rng.beta(2, 3, (c, n)), 0.4, num_runs))
    for num_clusters, sizes in ((30, (5,)), (30, (2, 5, 8)), (60, (4,)), (100, (2, 3, 4))):
        name = f"clustered mean, {num_clusters} clusters of {'/'.join(map(str, sizes))}, ICC 0.5"
        yield Cell(name, *clustered_coverage(rng, num_clusters, sizes, 0.5, num_runs))
    for share in (0.3, 0.5, 0.8):
        name = f"clustered share {share}, 50 clusters of 5, ICC 0.5"
        yield Cell(name, *clustered_share_coverage(rng, 50, 5, share, 0.5, num_runs))
    for rates in ((0.9, 0.8), (0.8, 0.9)):
        for truth in (0.1, 0.3, 0.5, 0.7, 0.9):
            name = f"judge {rates[0]}/{rates[1]} on 500 answers, 100 + 100 calibrated, truth {truth}"
            yield Cell(name, *judge_coverage(rng, truth, rates, 500, 100, num_runs))


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage of Paddock's intervals and error rates of its tests.")
    parser.add_argument("--runs", type=int, default=20_000, help="simulated runs a cell (default: 20,000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    print(f"{'':76} {'ours':>8} {'naive':>8}")
    for cell in (
        *wilson_cells(range(50, 1001, 10)),
        *exact_cells((50, 100, 200, 500)),
        *mcnemar_cells(range(6, 1001)),
        *mcnemar_of_pairs_cells(DESIGNS),
        *simulated_cells(options.seed, options.runs),
    ):
        naive = "" if cell.naive is None else f"{cell.naive:8.2%}"
        print(f"{cell.name:76} {cell.share:8.2%} {naive}", flush=True)
    print(f"{options.runs} runs a simulated cell, seed {options.seed}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

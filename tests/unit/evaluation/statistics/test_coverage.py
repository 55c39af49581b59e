"""The intervals hold and the tests keep their level: a small part of `make coverage-sim`, with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

import coverage_sim
from paddock.evaluation.statistics import intervals

NUM_RUNS = 3000
NOISE = 3.5 * (0.95 * 0.05 / NUM_RUNS) ** 0.5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("n", [50, 120, 400])
def test_wilson_holds_on_average_and_nowhere_fails(n: int) -> None:
    coverage = coverage_sim.proportion_coverage(intervals.wilson, n)
    assert 0.945 <= coverage.mean() <= 0.955
    assert coverage.min() >= 0.92


def test_the_exact_interval_never_covers_less_than_it_says() -> None:
    assert coverage_sim.proportion_coverage(intervals.clopper_pearson, 60).min() >= 0.95


@pytest.mark.parametrize("num_discordant", [6, 11, 25, 100, 101, 250])
def test_mcnemar_keeps_its_level(num_discordant: int) -> None:
    exact, mid_p = coverage_sim.mcnemar_rejections(num_discordant)
    assert exact <= 0.05
    assert mid_p >= exact
    if num_discordant >= 100:
        assert 0.04 <= mid_p <= 0.06


def test_mid_p_is_within_a_point_of_five_percent_wherever_any_symmetric_test_is() -> None:
    outside, impossible = [], []
    for n in range(100, 201):
        if not 0.04 <= coverage_sim.mcnemar_rejections(n)[1] <= 0.06:
            outside.append(n)
        rates = coverage_sim.attainable_rejections(n)
        if not ((rates >= 0.04) & (rates <= 0.06)).any():
            impossible.append(n)
    assert outside == impossible == [104, 115]
    assert coverage_sim.mcnemar_rejections(104)[1] == pytest.approx(0.0389579334)


def test_mid_p_keeps_its_level_before_the_number_of_discordant_pairs_is_known() -> None:
    designs = [(200, 0.5), (200, 0.9), (1000, 0.1)]
    assert all(0.049 <= coverage_sim.mcnemar_rejections_of_pairs(*design)[1] <= 0.051 for design in designs)


def test_means(rng: np.random.Generator) -> None:
    share = coverage_sim.mean_coverage(lambda count: rng.beta(2, 3, (count, 50)), 0.4, NUM_RUNS)
    assert abs(share - 0.95) < NOISE


def test_clustered_means_hold_where_the_naive_interval_misses(rng: np.random.Generator) -> None:
    ours, naive = coverage_sim.clustered_coverage(rng, 30, (2, 5, 8), 0.5, NUM_RUNS)
    assert abs(ours - 0.95) < NOISE
    assert naive < 0.8


def test_clustered_shares_hold_where_the_naive_interval_misses(rng: np.random.Generator) -> None:
    ours, naive = coverage_sim.clustered_share_coverage(rng, 50, 5, 0.8, 0.5, NUM_RUNS)
    assert abs(ours - 0.95) < NOISE + 0.005
    assert naive < 0.8


def test_corrected_scores_hold_where_the_judge_misses(rng: np.random.Generator) -> None:
    ours, naive = coverage_sim.judge_coverage(rng, 0.3, (0.9, 0.8), 500, 100, NUM_RUNS)
    assert abs(ours - 0.95) < NOISE
    assert naive < 0.1

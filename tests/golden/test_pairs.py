"""Two models on the same rows, against scipy 1.17 and counting by hand."""

from __future__ import annotations

import pytest

from paddock.evaluation.statistics import multiplicity, pairs


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_exact"),
    [
        # scipy.stats.binomtest(b, b + c).pvalue
        (0, 0, 1.0),
        (0, 5, 0.0625),
        (1, 9, 0.021484375),
        (3, 3, 1.0),
        (4, 15, 0.019210815429687503),
        (40, 62, 0.037066767438560584),
        (500, 600, 0.0028195449914364284),
    ],
)
def test_mcnemar_exact(only_first: int, only_second: int, p_exact: float) -> None:
    assert pairs.mcnemar(only_first, only_second).p_exact == pytest.approx(p_exact, rel=1e-6)
    assert pairs.mcnemar(only_second, only_first).p_exact == pytest.approx(p_exact, rel=1e-6)


def test_mcnemar_mid_p_by_counting() -> None:
    # Of the 2¹⁰ outcomes of ten throws one has no head and ten have one: 2·(1 + 10)/1024, less half of each 10.
    assert pairs.mcnemar(1, 9).p_mid == pytest.approx(12 / 1024)
    # Fagerland, Lydersen and Laake (2013), table 1 (airway hyper-responsiveness): 1 and 7 discordant pairs.
    found = pairs.mcnemar(1, 7)
    assert found.p_exact == pytest.approx(0.0703, abs=5e-5)
    assert found.p_mid == pytest.approx(0.0391, abs=5e-5)
    assert pairs.mcnemar(4, 4).p_mid == 1.0


def test_difference_of_proportions() -> None:
    # (2/23, 8/23): 6/23 ± 1.959964 · √((10/23 - 36/529) / 23)
    low, high = pairs.difference_of_proportions(1, 7, 21)
    assert (low, high) == pytest.approx((0.01337982, 0.50835931), abs=1e-8)
    assert pairs.difference_of_proportions(7, 1, 21) == pytest.approx((-high, -low))
    assert pairs.difference_of_proportions(0, 0, 1) == pytest.approx((-0.9239, 0.9239), abs=5e-4)


def test_paired_t() -> None:
    first, second = [1.0, 2.0, 3.5, 4.0, 2.5], [2.0, 2.5, 3.0, 6.0, 4.0]
    found = pairs.difference(first, second)
    # scipy.stats.ttest_rel(second, first)
    assert found.value == pytest.approx(0.9)
    assert pairs.p_value(found) == pytest.approx(0.10453999977837544)
    assert found.interval == pytest.approx((-0.29419419404999003, 2.09419419404999))
    assert pairs.smallest_detectable(1.0) == pytest.approx(2.8015852, rel=1e-7)


def test_differences_that_are_all_alike_tell_no_p_value() -> None:
    same = pairs.difference([1.0, 2.0], [1.0, 2.0])
    assert (pairs.p_value(same), same.interval) == (1.0, None)
    assert pairs.p_value(pairs.difference([1.0, 2.0], [1.5, 2.5])) is None
    assert pairs.p_value(pairs.difference([1.0], [1.5])) is None


def test_adjusted_p_values() -> None:
    raw = [0.01, 0.04, 0.03, 0.005]
    # By hand: 4 · 0.005, 3 · 0.01, then 2 · 0.03, which 1 · 0.04 may not fall below; and 4/1, 4/2, 4/3, 4/4 of each rank.
    assert multiplicity.holm(raw) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert multiplicity.benjamini_hochberg(raw) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert multiplicity.holm([]) == multiplicity.benjamini_hochberg([]) == []
    assert multiplicity.holm([0.9, 0.8]) == [1.0, 1.0]

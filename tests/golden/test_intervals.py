"""Intervals and quantiles, against literals from the literature and from scipy 1.17."""

from __future__ import annotations

import pytest

from paddock.evaluation.statistics import distributions, intervals


@pytest.mark.parametrize(
    ("num_successes", "num_trials", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3, to its four digits
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(num_successes: int, num_trials: int, low: float, high: float) -> None:
    assert intervals.wilson(num_successes, num_trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("num_successes", "num_trials", "low", "high"),
    [
        # scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        (0, 10, 0.0, 0.27753279986288926),
        (10, 10, 0.7224672001371109, 1.0),
        (1, 2, 0.09453120573423074, 0.9054687942657693),
        (3, 10, 0.10779126740630102, 0.6032218525388546),
        (497, 500, 0.9825097478959467, 0.9979574037280398),
        (1234, 2000, 0.5954902722303789, 0.638061138705808),
    ],
)
def test_wilson(num_successes: int, num_trials: int, low: float, high: float) -> None:
    assert intervals.wilson(num_successes, num_trials) == pytest.approx((low, high), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("num_degrees", "at_975", "at_995"),
    [
        # scipy.stats.t.ppf
        (1, 12.706204736174694, 63.656741162871526),
        (2, 4.302652729749462, 9.924843200918287),
        (5, 2.5705818356363146, 4.032142983555228),
        (10, 2.228138851986274, 3.16927267261695),
        (30, 2.0422724563012378, 2.7499956535672254),
        (99, 1.9842169515864174, 2.626405457280827),
        (1000, 1.9623390808264083, 2.580754698065951),
        (199999, 1.9599758460260759, 2.575853886630681),
    ],
)
def test_student_t_quantile(num_degrees: int, at_975: float, at_995: float) -> None:
    assert distributions.student_t_quantile(0.975, num_degrees) == pytest.approx(at_975, rel=1e-9)
    assert distributions.student_t_quantile(0.995, num_degrees) == pytest.approx(at_995, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "x", "value"),
    [
        # scipy.special.betainc; the second is 2/π · arcsin(√x)
        (2, 3, 0.4, 0.5247999999999999),
        (0.5, 0.5, 0.25, 1 / 3),
        (50, 0.5, 0.99, 0.3173043978741973),
        (10, 200, 0.03, 0.10050835237144835),
        (100.5, 200.25, 0.35, 0.7226897717875937),
        (1, 1, 0.7, 0.7),
        (3, 4, 0.0, 0.0),
        (3, 4, 1.0, 1.0),
    ],
)
def test_incomplete_beta(a: float, b: float, x: float, value: float) -> None:
    assert distributions.incomplete_beta(a, b, x) == pytest.approx(value, rel=1e-12)


def test_the_binomial_of_a_half_by_counting() -> None:
    # 1, 10 and 45 of the 1,024 outcomes of ten throws have 0, 1 and 2 heads.
    assert [distributions.binomial_cdf(k, 10, 0.5) for k in (0, 1, 2)] == pytest.approx(
        [1 / 1024, 11 / 1024, 56 / 1024]
    )


@pytest.mark.parametrize(
    ("n", "ranks"),
    # By counting: of the 2^n equally likely ways to fall below or above the median, at most 2.5 % lie outside each end.
    [(1, None), (5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))],
)
def test_ranks_of_the_median(n: int, ranks: tuple[int, int] | None) -> None:
    assert intervals.median([float(rank) for rank in range(1, n + 1)]) == ranks

"""What a judge's yes and no say of the truth, once it is known how often the judge is right.

A judge that finds `sensitivity` of the good answers and `specificity` of the bad ones says yes to a share of
π·Se + (1-π)·(1-Sp) where the true share is π. Solved for π that is the estimate of W. J. Rogan and B. Gladen, American
Journal of Epidemiology 107 (1978). Its interval, for a judge whose two rates were measured on a sample themselves, is that
of Z. Lang and J. Reiczigel, Preventive Veterinary Medicine 113 (2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paddock.evaluation.statistics import distributions
from paddock.evaluation.statistics.intervals import CONFIDENCE, Interval


@dataclass(frozen=True)
class Calibration:
    """How a judge did on answers whose truth is known: of `num_good` good ones it said yes to `num_good_found`, of
    `num_bad` bad ones no to `num_bad_found`. At least one of each."""

    num_good: int
    num_good_found: int
    num_bad: int
    num_bad_found: int

    @property
    def sensitivity(self) -> float:
        return self.num_good_found / self.num_good

    @property
    def specificity(self) -> float:
        return self.num_bad_found / self.num_bad


def correct(share: float, calibration: Calibration) -> float | None:
    """The true share of good answers where the judge says yes to `share`, cut at 0 and 1. None for a judge that is no
    better than chance: its verdicts say nothing."""
    youden = calibration.sensitivity + calibration.specificity - 1
    return None if youden <= 0 else min(1.0, max(0.0, (share + calibration.specificity - 1) / youden))


def interval(num_yes: int, num_judged: int, calibration: Calibration) -> Interval | None:
    """The interval of the true share; None for a judge that is no better than chance. Needs one verdict at least."""
    z = distributions.normal_quantile(0.5 + CONFIDENCE / 2)
    # Agresti and Coull's z²/2 added verdicts of each kind, and one found and one missed answer of each.
    n = num_judged + z * z
    share = (num_yes + z * z / 2) / n
    num_good, num_bad = calibration.num_good + 2, calibration.num_bad + 2
    sensitivity = (calibration.num_good_found + 1) / num_good
    specificity = (calibration.num_bad_found + 1) / num_bad
    youden = sensitivity + specificity - 1
    if youden <= 0:
        return None
    truth = (share + specificity - 1) / youden
    of_good = sensitivity * (1 - sensitivity) / num_good
    of_bad = specificity * (1 - specificity) / num_bad
    centre = truth + 2 * z * z * (truth * of_good - (1 - truth) * of_bad)
    half = z * math.sqrt(share * (1 - share) / n + truth**2 * of_good + (1 - truth) ** 2 * of_bad) / youden
    return Interval(min(1.0, max(0.0, centre - half)), min(1.0, max(0.0, centre + half)))

"""The correction of a judge's verdicts, against the formulas worked out by hand."""

from __future__ import annotations

import pytest

from paddock.evaluation.calibration import Corrector
from paddock.evaluation.statistics import judge_correction
from paddock.evaluation.statistics.judge_correction import Calibration

JUDGE = Calibration(num_good=50, num_good_found=45, num_bad=40, num_bad_found=32)


def test_rogan_and_gladen() -> None:
    assert (JUDGE.sensitivity, JUDGE.specificity) == (0.9, 0.8)
    # (0.55 + 0.8 - 1) / (0.9 + 0.8 - 1)
    assert judge_correction.correct(0.55, JUDGE) == pytest.approx(0.5)
    assert judge_correction.correct(0.1, JUDGE) == 0.0
    assert judge_correction.correct(0.95, JUDGE) == 1.0


def test_lang_and_reiczigel() -> None:
    # In decimal arithmetic of 30 digits: p = 0.549057733681, Se = 46/52, Sp = 33/42, π = 0.499413996147, its shift
    # -0.007885904996, half the width 0.152175289.
    interval = judge_correction.interval(110, 200, JUDGE)
    assert interval == pytest.approx((0.339352802142782, 0.643703380158966), rel=1e-12)
    wide = judge_correction.interval(110, 200, Calibration(5, 4, 5, 4))
    sure = judge_correction.interval(110, 200, Calibration(50_000, 45_000, 40_000, 32_000))
    assert interval is not None
    assert wide is not None
    assert sure is not None
    assert wide.high - wide.low > interval.high - interval.low > sure.high - sure.low


@pytest.mark.parametrize(
    ("of_good", "of_bad"),
    [
        ([False], [False] * 50),  # finds none, rejects all: the interval alone would hold it for better than chance
        ([True] * 50, [True]),
        ([True] * 10 + [False] * 10, [True] * 10 + [False] * 10),
        ([False] * 20, [True] * 20),  # always wrong
        ([True], []),
    ],
)
def test_a_judge_no_better_than_chance_is_not_corrected(of_good: list[bool], of_bad: list[bool]) -> None:
    corrector = Corrector(threshold=1.0)
    for label, verdicts in ((True, of_good), (False, of_bad)):
        for verdict in verdicts:
            corrector.add_labelled({"score": float(verdict), "label": label})
    for _ in range(10):
        corrector.add({"score": 1.0})
    found = corrector.result()
    assert (found["corrected"], found["ci95"], found["raw"]) == (None, None, 1.0)


def test_a_judge_that_guesses_says_nothing() -> None:
    guessing = Calibration(20, 10, 20, 10)
    assert judge_correction.correct(0.5, guessing) is None
    assert judge_correction.interval(50, 100, guessing) is None

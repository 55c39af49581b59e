from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock.evaluation.schemas import RegexParserScoringFnParams
from paddock.evaluation.scoring.function import CannotScoreError, Sample, completed
from paddock.evaluation.scoring.math_response import MATH_RESPONSE


async def no_judge(_: str) -> str:
    raise AssertionError


def scored(generated: str, expected: str, **params: Any) -> dict[str, Any]:
    complete = completed(RegexParserScoringFnParams(**params), MATH_RESPONSE.defaults)
    scorer = MATH_RESPONSE.prepare(complete, "/params")
    return asyncio.run(scorer.score(Sample("q", expected, generated), no_judge))


EQUAL = [
    # numbers
    ("The answer is 42.", "42"),
    ("42.0", "42"),
    ("It comes to 1,234,567.", "1234567"),
    ("0.5", r"\frac{1}{2}"),
    ("1/2", "0.5"),
    ("-3", "-3"),
    ("−3", "-3"),
    ("50%", "50"),
    ("$5", "5"),
    ("The total is \\$18.90", "18.90"),
    ("3.0e2 = 300", "300"),
    ("007", "7"),
    # what is boxed counts, then what is said last
    (r"First 7, then \boxed{8}.", "8"),
    (r"\boxed{1} or \boxed{2}", "1, 2"),
    ("We try 3, then 4. The final answer is 5.", "5"),
    (r"Final answer: The final answer is $\boxed{12}$. I hope it is correct.", "12"),
    # fractions and roots
    (r"$\frac{3}{4}$", "0.75"),
    (r"$\dfrac{3}{4}$", r"\frac{3}{4}"),
    (r"$\tfrac34$", r"\frac{3}{4}"),
    (r"$\frac{2}{4}$", r"\frac{1}{2}"),
    (r"$\sqrt{8}$", r"2\sqrt{2}"),
    (r"$\frac{1}{\sqrt{2}}$", r"\frac{\sqrt{2}}{2}"),
    (r"$\sqrt[3]{27}$", "3"),
    (r"$2^{10}$", "1024"),
    (r"$1\frac{1}{2}$", r"\frac{3}{2}"),
    # expressions
    (r"$x^2+2x+1$", "(x+1)^2"),
    (r"$(a+b)(a-b)$", "a^2-b^2"),
    (r"$2\pi r$", r"2 \pi r"),
    (r"$\sin^2 x + \cos^2 x$", "1"),
    (r"$x = 5$", "5"),
    (r"$5 = x$", "x=5"),
    (r"$y=2x+3$", "y = 2x + 3"),
    (r"$\log_2 8$", "3"),
    (r"$5!$", "120"),
    (r"$\binom{5}{2}$", "10"),
    # sets, tuples, intervals, matrices
    (r"$\{1,2,3\}$", r"\{3,2,1\}"),
    (r"$(1,2)$", "(1, 2)"),
    (r"$[0,1)$", "[0,1)"),
    (r"$(-\infty, 3]$", r"(-\infty,3]"),
    (r"$\begin{pmatrix}1&2\\3&4\end{pmatrix}$", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"$x \in [1, 2] \cup [3, 4]$", r"[1,2]\cup[3,4]"),
    # units, text, degrees
    (r"$12\text{ cm}$", "12"),
    (r"$90^\circ$", "90"),
    (r"\boxed{\text{12}}", "12"),
    (r"$10\%$", "10"),
    # expected answers as data sets write them
    ("18", "Janet sells 16 - 3 - 4 = 9 eggs. #### 18".rpartition("#### ")[2]),
    (r"\boxed{\frac{5}{9}}", r"$\frac{5}{9}$"),
    (r"\boxed{\frac{5}{9}}", r"\boxed{\frac{5}{9}}"),
    (r"the answer is \( \frac{5}{9} \)", r"\frac59"),
    (r"\[ x = \frac{7}{3} \]", r"\frac{7}{3}"),
]

UNEQUAL = [
    ("41", "42"),
    ("42.1", "42"),
    ("-42", "42"),
    (r"\boxed{8} and then 9", "9"),
    # All that is boxed is the answer.
    (r"\boxed{1} is wrong, so \boxed{2}", "2"),
    ("0.33", r"\frac{1}{3}"),
    (r"$\frac{1}{3}$", "0.5"),
    (r"$\sqrt{2}$", "2"),
    (r"$x^2+1$", "(x+1)^2"),
    (r"$(2,1)$", "(1,2)"),
    (r"$[0,1]$", "[0,1)"),
    (r"$\{1,2\}$", r"\{1,2,3\}"),
    (r"$2x+3$", "2x-3"),
    (r"$\pi$", "3"),
    (r"$\begin{pmatrix}1&2\\3&4\end{pmatrix}$", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
    ("100", "10"),
    ("I do not know.", "7"),
    ("", "7"),
    ("no number here", r"\frac{1}{2}"),
]


@pytest.mark.parametrize(("generated", "expected"), EQUAL)
def test_equal(generated: str, expected: str) -> None:
    found = scored(generated, expected)
    assert found["score"] == 1.0, found
    assert found["extracted_answer"]


@pytest.mark.parametrize(("generated", "expected"), UNEQUAL)
def test_unequal(generated: str, expected: str) -> None:
    assert scored(generated, expected)["score"] == 0.0


def test_an_answer_without_mathematics_is_wrong_not_failed() -> None:
    assert scored("I do not know.", "7") == {"score": 0.0, "extracted_answer": None}


def test_regexes_say_where_the_answer_stands() -> None:
    regexes = [r"Answer: (.*)", r"=\s*(\S+)$"]
    assert scored("3 or 4? Answer: 4, not 5", "4", parsing_regexes=[r"Answer: (\d)"])["score"] == 1.0
    assert scored("x = 0.25", r"\frac{1}{4}", parsing_regexes=regexes)["score"] == 1.0
    assert scored("25", "25", parsing_regexes=regexes) == {"score": 0.0, "extracted_answer": None}


def test_an_expected_answer_that_is_no_mathematics_is_a_failed_row() -> None:
    with pytest.raises(CannotScoreError, match="expected answer"):
        scored("5", "")

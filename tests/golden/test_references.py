"""Scoring functions beside their references, where those can be installed (math-verify, sacrebleu, rouge-score) or are a
definition in print (SQuAD's, written here again in another way). The others' references have their verdicts on record:
`test_recorded_verdicts.py`; `braintrust::*` is beside autoevals in `unit/evaluation/scoring/test_braintrust.py`.

`docs/scoring.md` says on how many cases each is compared, and where ours differs on purpose.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import random
import re
import string

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from paddock.evaluation.schemas import RegexParserScoringFnParams
from paddock.evaluation.scoring import SCORING_FUNCTIONS, regexes
from paddock.evaluation.scoring.function import completed
from paddock.evaluation.scoring.multiple_choice import ANSWER_WORDS
from scoring_references import PAGE, TESTS, documented_cases, score_all

WORDS = [
    "the",
    "a",
    "cat",
    "sat",
    "on",
    "mat",
    "dog",
    "ran",
    "Paris,",
    "France.",
    "3",
    "12,000",
    "It's",
    "well-known",
    "an",
]
WORDS += ["café", "naïve", "U.S.", "(see)", "—", "ok!", "straße"]


def texts(seed: int, num: int, most_words: int = 9) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(0, most_words))) for _ in range(num)]


def pairs(seed: int, num: int = 150) -> list[tuple[str, str]]:
    """Expected and generated texts, which share much, little or nothing."""
    draw = random.Random(seed)
    found = []
    for expected in texts(seed, num):
        words = expected.split()
        draw.shuffle(words)
        others = [
            expected,
            expected.upper(),
            f" {expected}.",
            " ".join(words),
            " ".join(words[1:]),
            *texts(draw.random(), 3),
        ]
        found.append((expected, draw.choice(others)))
    return found


# ------------------------------------------------------------------------------------------------ Llama Stack's patterns


LLAMA_STACK_SHAPE = r"(?i){}\s*([A-J]|[أ-د]|[অ]|[ব]|[ড]|[ঢ]|[Ａ]|[Ｂ]|[Ｃ]|[Ｄ])"
"""How Llama Stack's default patterns are made of what stands before the choice in many languages."""

BEFORE = [rf"{word}\s*{colon}" for word in ANSWER_WORDS for colon in (":", "：")] + ["The best answer is "]
CHOICES = ("A", "b", " C", "\nD", "أ", " د", "অ", "Ｂ", "ｂ", "k", "10", "", "**A**", "\x0bA", "\u2028B")


def test_the_references_patterns_mean_the_same_on_both_engines() -> None:
    """Python's `re`, which Llama Stack searches with, beside whichever of RE2 and `regex` is chosen here."""
    patterns = [LLAMA_STACK_SHAPE.format(before) for before in BEFORE]
    engines = collections.Counter()
    for position, source in enumerate(patterns):
        (pattern,) = regexes.compile_all([source], "")
        before = BEFORE[position].replace(r"\s*", " " if position % 3 else "")
        for choice in CHOICES[position % 4 :: 4]:
            is_plain = position % 2 or "ı" in before
            text = f"Let me think.\n{before if is_plain else before.upper()}{choice} because"
            expected = re.search(source, text)
            assert asyncio.run(regexes.find([pattern], text)) == (expected and expected.group(1)), (source, text)
            engines[pattern.is_linear_on(text)] += 1
    assert engines.total() >= 100


def test_the_one_letter_whose_case_the_engines_see_otherwise() -> None:
    """To `re` the Turkish dotless ı is a lower case of I, to `regex` and to Unicode's case folding it is not."""
    assert re.search("(?i)yanıt", "YANIT")
    assert asyncio.run(regexes.find(regexes.compile_all(["(?i)yanıt"], ""), "YANIT")) is None


@pytest.mark.parametrize("source", [r"(?i)answer\s*:\s*([A-J])", r"\bthe answer is ([A-D])\b"])
def test_ascii_patterns_mean_the_same_on_both_engines(source: str) -> None:
    (pattern,) = regexes.compile_all([source], "")
    engines = collections.Counter()
    for before, choice, after in itertools.product(
        ("", "x ", "é ", "\x1c"),
        ("answer: B", "ANSWER :\tc", "the answer is D", "answer: K", "aNſwer: A"),
        ("", ".", " é"),
    ):
        text = before + choice + after
        expected = re.search(source, text)
        assert asyncio.run(regexes.find([pattern], text)) == (expected and expected.group(1)), text
        engines[pattern.is_linear_on(text)] += 1
    assert min(engines[True], engines[False]) > 0


# ------------------------------------------------------------------------------------------------ math-verify


def test_math_response() -> None:
    """math-verify's own verdict on the same texts. Ours gives it the expected text between dollar signs first, for a column
    holds bare LaTeX mostly, which it reads only there."""
    from math_verify import parse, verify

    golds = [
        "12",
        "-3.5",
        "1/2",
        r"\frac{2}{3}",
        "2^{10}",
        r"\sqrt{8}",
        r"\{1,2,3\}",
        "(0,1]",
        "x^2+2x+1",
        r"\pi/4",
        "50\\%",
    ]
    answers = [
        "12",
        "12.0",
        "-3.5",
        r"$\frac{1}{2}$",
        "0.5",
        r"\boxed{\frac{4}{6}}",
        "1024",
        r"$2\sqrt{2}$",
        r"$\{3,2,1\}$",
    ]
    answers += ["The answer is $(0,1]$", r"$(x+1)^2$", r"$\frac{\pi}{4}$", "none", "0.50", r"so it is \boxed{12}."]
    cases = list(itertools.product(golds, answers))
    found = score_all("basic::regex_parser_math_response", cases)
    reference = []
    for gold, given in cases:
        target = parse(given)
        reference.append(float(bool(target) and verify(parse(f"${gold}$"), target)))
    assert [row["score"] for row in found] == reference
    assert len(cases) == documented_cases()["basic::regex_parser_math_response"]
    assert 15 <= sum(reference) <= len(cases) - 50


# ------------------------------------------------------------------------------------------------ texts


def squad_words(text: str) -> list[str]:
    """SQuAD's normalisation as its paper describes it: punctuation and articles are left out, case is ignored."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in re.split(r"\s+", re.sub(r"\b(a|an|the)\b", " ", bare)) if word]


def test_squads_exact_match_and_f1() -> None:
    cases = pairs(6, 200)
    exact, f1 = score_all("text::exact_match", cases), score_all("text::f1", cases)
    for (expected, generated), one, other in zip(cases, exact, f1, strict=True):
        gold, given = squad_words(expected), squad_words(generated)
        assert one["score"] == float(" ".join(gold) == " ".join(given))
        left = list(gold)
        shared = 0
        for word in given:
            if word in left:
                left.remove(word)
                shared += 1
        reference = 2 * shared / (len(gold) + len(given)) if gold and given else float(gold == given)
        assert other["score"] == pytest.approx(reference)
    assert documented_cases()["text::exact_match"] == documented_cases()["text::f1"] == len(cases)
    assert {row["score"] for row in exact} == {0.0, 1.0}
    assert len({row["score"] for row in f1}) > 5


def test_bleu_and_chrf() -> None:
    """sacrebleu's metric objects; ours calls its functions, in another process."""
    cases = pairs(7)
    bleu, chrf = sacrebleu.BLEU(effective_order=True), sacrebleu.CHRF()
    for function_id, metric in (("text::bleu", bleu), ("text::chrf", chrf)):
        found = [row["score"] for row in score_all(function_id, cases)]
        assert found == pytest.approx([metric.sentence_score(g, [e]).score for e, g in cases])
        assert len(set(found)) > 20
        assert len(cases) == documented_cases()[function_id]


def test_rouge() -> None:
    cases = pairs(8)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    found = score_all("text::rouge", cases)
    for (expected, generated), row in zip(cases, found, strict=True):
        reference = {name: score.fmeasure for name, score in scorer.score(expected, generated).items()}
        assert (row["score"], row["rouge1"], row["rouge2"]) == pytest.approx(
            tuple(reference[n] for n in ("rougeL", "rouge1", "rouge2"))
        )
    assert len({row["score"] for row in found}) > 10
    assert len(cases) == documented_cases()["text::rouge"]


def test_every_function_is_compared_with_its_reference_on_a_hundred_cases() -> None:
    assert documented_cases().keys() == SCORING_FUNCTIONS.keys()
    assert min(documented_cases().values()) >= 100


def test_the_references_that_are_installed_are_the_pinned_ones() -> None:
    pins = (TESTS.parent / "constraints.txt").read_text().splitlines()
    for name in ("autoevals", "math-verify", "rouge_score", "sacrebleu"):
        (version,) = set(re.findall(rf"\b{name} (\d[\d.]*\d)", PAGE))
        assert f"{name}=={version}" in pins


def test_a_scoring_functions_regexes_are_those_of_its_parameters() -> None:
    params = RegexParserScoringFnParams(parsing_regexes=[r"x(\d)"])
    assert completed(params, SCORING_FUNCTIONS["basic::regex_parser_math_response"].defaults).parsing_regexes == [
        r"x(\d)"
    ]

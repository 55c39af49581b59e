"""Each scoring function beside its field's reference, on a hundred cases and more.

References are the field's libraries where they can be installed (math-verify, sacrebleu, rouge-score), otherwise the
published definition, written here again in another way. IFEval and BFCL have their references' verdicts on record
(`test_recorded_verdicts.py`); `braintrust::*` is compared with autoevals in `unit/evaluation/scoring/test_braintrust.py`.

Where ours differs from the reference on purpose, the test says so and shows it.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import random
import re
import string
from typing import Any

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams, RegexParserScoringFnParams
from paddock.evaluation.scoring import SCORING_FUNCTIONS, regexes
from paddock.evaluation.scoring.function import GREEDY, CannotScoreError, Sample, Score, completed
from paddock.evaluation.scoring.multiple_choice import ANSWER_WORDS
from paddock.inference.engine import Sampling

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


def score_all(function_id: str, cases: list[tuple[str, str]], reply: str = "", **params: Any) -> list[Score]:
    """The score rows of (expected, generated) pairs; a failed one says so in `error`."""
    function = SCORING_FUNCTIONS[function_id]
    defaults = function.defaults
    scorer = function.prepare(completed(type(defaults)(**params), defaults) if params else defaults, "")

    async def ask(_prompt: str, _sampling: Sampling = GREEDY) -> str:
        return reply

    async def one(expected: str, generated: str) -> Score:
        try:
            return await scorer.score(Sample("q", expected, generated), ask)
        except CannotScoreError as error:
            return {"score": None, "error": error.reason}

    async def every() -> list[Score]:
        return [await one(*case) for case in cases]

    return asyncio.run(every())


# ------------------------------------------------------------------------------------------------ Llama Stack's basics


def test_equality() -> None:
    """Llama Stack: the two texts are the same."""
    cases = pairs(1)
    found = [row["score"] for row in score_all("basic::equality", cases)]
    assert found == [float(not (expected < generated or expected > generated)) for expected, generated in cases]
    assert len(set(found)) == 2


def test_subset_of() -> None:
    """Llama Stack: the expected text is somewhere in the generated one. An empty one, which is in all, is a failed row."""
    cases = [(e[: len(e) // 2], g) for e, g in pairs(2)]
    found = score_all("basic::subset_of", cases)
    for (expected, generated), row in zip(cases, found, strict=True):
        starts = range(len(generated) - len(expected) + 1)
        reference = any(generated[start : start + len(expected)] == expected for start in starts)
        assert row["score"] == (float(reference) if expected else None)
    assert {row["score"] for row in found} == {0.0, 1.0, None}


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


def test_multiple_choice_with_llama_stacks_patterns() -> None:
    """Llama Stack compares what the first matching pattern's first group holds with the expected text. Ours normalises both:
    "b" is B and "Ｂ" is B, and of other scripts each letter its Latin one."""
    patterns = [LLAMA_STACK_SHAPE.format(before) for before in BEFORE[:100]]
    draw = random.Random(5)
    cases = [
        (draw.choice("ABCD"), f"Well. {word}: {draw.choice(['A', 'B', 'C', 'D', 'E', 'Z', '1'])} it is")
        for word in [*ANSWER_WORDS[:40], "Grade"] * 3
    ]
    found = score_all("basic::regex_parser_multiple_choice_answer", cases, parsing_regexes=patterns)
    for (expected, generated), row in zip(cases, found, strict=True):
        matches = (re.search(pattern, generated) for pattern in patterns)
        read = next((match.group(1) for match in matches if match), None)
        assert (row["score"], row["extracted_answer"]) == (
            float(read == expected),
            None if read is None else read.upper(),
        )
    assert len(cases) >= 100
    differing = [("B", "Answer: b"), ("B", "Answer: Ｂ"), ("A", "Answer: أ"), ("(B)", "Answer: B")]
    assert [row["score"] for row in score_all("basic::regex_parser_multiple_choice_answer", differing)] == [1.0] * 4


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
    assert len(cases) >= 100
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


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's, by its recurrence over all prefixes."""
    above = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


def test_docvqa() -> None:
    """ANLS as Biten et al. define it: 1 − NL where NL < 0.5, else 0, for the best of the answers.

    Llama Stack's docvqa, an exact match, normalises more: it turns number words into digits, drops "to", "in", "from", "by",
    and spells contractions in full. ANLS does none of that, and "from A" is not "A" in a form; so neither does ours. Its
    other ways of writing are ours as well: case, white space, quotes and a full stop behind."""
    draw = random.Random(9)
    cases = []
    for expected in texts(9, 150, 4):
        generated = list(expected or "x")
        for _ in range(draw.randint(0, 4)):
            generated[draw.randrange(len(generated))] = draw.choice("abcé 1")
        cases.append((expected, "".join(generated)))
    found = score_all("basic::docvqa", cases)

    def plain(text: str) -> str:
        return " ".join(text.lower().split()).strip("\"'").removesuffix(".").strip()

    num_similar = 0
    for (expected, generated), row in zip(cases, found, strict=True):
        gold, given = plain(expected), plain(generated)
        if not gold:
            assert row["error"] == "The expected answer is empty."
            continue
        distance = edit_distance(gold, given) / max(len(gold), len(given))
        assert row["anls"] == pytest.approx(1 - distance if distance < 0.5 or distance == 0.5 else 0.0)
        assert row["score"] == float(gold == given)
        num_similar += 0 < row["anls"] < 1
    assert num_similar > 20


# ------------------------------------------------------------------------------------------------ judges


def test_the_judges_verdict() -> None:
    """Llama Stack: the first group of the first regex that matches, as text. Ours is the same, and a number is a number."""
    patterns = [r"Total rating: (\d+)", r"rating: (\d+)", r"[Ss]core\s*=\s*(\d+\.\d+)", r"\[\[(\w)\]\]"]
    draw = random.Random(10)
    starts = ["Total rating: {}", "My rating: {}", "score = {}.5", "Score={}", "[[B]]", "No verdict {}", "rating:{}"]
    replies = [f"{draw.choice(WORDS)} {draw.choice(starts).format(draw.randint(0, 12))} of 12" for _ in range(120)]
    judge = SCORING_FUNCTIONS["llm-as-judge::base"]
    params = LLMAsJudgeScoringFnParams(judge_model="j", judge_score_regexes=patterns)
    scorer = judge.prepare(completed(params, judge.defaults), "")
    num_failed = 0
    for reply in replies:

        async def ask(_prompt: str, _sampling: Sampling = GREEDY, reply: str = reply) -> str:
            return reply

        matches = (re.search(pattern, reply) for pattern in patterns)
        reference = next((match.group(1) for match in matches if match), None)
        try:
            found = asyncio.run(scorer.score(Sample("q", "e", "g"), ask))["score"]
        except CannotScoreError:
            found = None
            num_failed += 1
        assert (None if found is None else str(found)) == reference
        assert found is None or isinstance(found, str) == (not reference.replace(".", "").isdigit())
    assert 10 < num_failed < 100


LETTERS_ALONE = [
    pre + letter + post
    for letter in "ABC"
    for pre in ("", " ", "\n", "**", "(", '"')
    for post in ("", ".", "\n", "**", ")", '"')
]


def test_simpleqa() -> None:
    """The reference takes the first A, B or C anywhere in the reply. With a letter alone ours is the same."""
    for reply in LETTERS_ALONE:
        (row,) = score_all("llm-as-judge::405b-simpleqa", [("e", "g")], reply, judge_model="j")
        assert row["score"] == re.search("A|B|C", reply).group(), reply
    assert len(LETTERS_ALONE) >= 100


@pytest.mark.parametrize(
    ("reply", "grade", "reference"),
    [
        ("CORRECT", "A", "C"),  # the reference reads the first letter of the word
        ("INCORRECT", "B", "C"),
        ("NOT_ATTEMPTED", "C", "A"),
        ("Both name her.\nA", "A", "B"),
        ("A careful reading: INCORRECT", "B", "A"),
    ],
)
def test_simpleqa_reads_a_verdict_whole_where_the_reference_reads_a_letter(
    reply: str, grade: str, reference: str
) -> None:
    (row,) = score_all("llm-as-judge::405b-simpleqa", [("e", "g")], reply, judge_model="j")
    assert (row["score"], re.search("A|B|C", reply).group()) == (grade, reference)


def test_every_function_has_its_reference() -> None:
    here = {"basic::equality", "basic::subset_of", "basic::regex_parser_multiple_choice_answer", "basic::docvqa"}
    here |= {"basic::regex_parser_math_response", "llm-as-judge::base", "llm-as-judge::405b-simpleqa"}
    here |= {f"text::{name}" for name in ("exact_match", "f1", "bleu", "chrf", "rouge")}
    recorded = {"basic::ifeval", "basic::bfcl"}
    with_autoevals = {function_id for function_id in SCORING_FUNCTIONS if function_id.startswith("braintrust::")}
    assert here | recorded | with_autoevals == SCORING_FUNCTIONS.keys()


def test_a_scoring_functions_regexes_are_those_of_its_parameters() -> None:
    params = RegexParserScoringFnParams(parsing_regexes=[r"x(\d)"])
    assert completed(params, SCORING_FUNCTIONS["basic::regex_parser_math_response"].defaults).parsing_regexes == [
        r"x(\d)"
    ]

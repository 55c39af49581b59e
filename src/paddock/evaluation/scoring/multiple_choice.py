"""`basic::regex_parser_multiple_choice_answer`: reads the chosen letter out of the generated answer and compares it.

An answer in which no pattern finds a choice is a wrong answer (0.0, `extracted_answer` null), not a failed row: the
model was asked for a letter. A regex that runs out of time, or a text too long for it, is a failed row.
"""

from __future__ import annotations

import re
import unicodedata

from paddock.evaluation.schemas import AggregationFunctionType, RegexParserScoringFnParams
from paddock.evaluation.scoring import regexes
from paddock.evaluation.scoring.filtered_match import refuse_matching
from paddock.evaluation.scoring.function import Ask, Sample, Score, Scorer, ScoringFunction

ANSWER_WORDS = (
    # English, Spanish, Portuguese, French, Italian, Romanian, German, Dutch
    *("answer", "correct option", "correct choice", "best option", "best choice"),
    *("respuesta", "resposta", "réponse", "risposta", "răspuns", "răspunsul", "antwort", "antwoord"),
    # Scandinavian, Finnish, Polish, Czech, Hungarian, Turkish, Indonesian, Vietnamese, Swahili, Yoruba
    *("svar", "svaret", "vastaus", "odpowiedź", "odpověď", "válasz", "cevap", "yanıt", "jawaban"),
    *("đáp án", "câu trả lời", "jibu", "jawabu", "ìdáhùn"),
    # Russian, Ukrainian, Greek, Arabic, Persian, Urdu, Hebrew
    *("ответ", "відповідь", "απάντηση", "الإجابة", "الاجابة", "إجابة", "الجواب", "پاسخ", "جواب", "תשובה", "התשובה"),
    # Hindi, Bengali, Tamil, Telugu, Thai, Chinese, Japanese, Korean
    *(
        "उत्तर",
        "उत्तरः",
        "জবাব",
        "উত্তর",
        "பதில்",
        "విడై",
        "సమాధానం",
        "คำตอบ",
        "答案",
        "答え",
        "回答",
        "解答",
        "正解",
        "정답",
        "답변",
        "답",
    ),
)
"""What stands before the choice in many languages."""

_COPULAS = (
    *("is", "would be", "es", "est", "é", "è", "este", "ist", "lautet", "är", "er", "on", "to", "jest", "je"),
    *(
        "adalah",
        "là",
        "ni",
        "είναι",
        "هي",
        "هو",
        "היא",
        "है",
        "হল",
        "হলো",
        "คือ",
        "是",
        "为",
        "為",
        "は",
        "은",
        "는",
        "이",
    ),
)

OTHER_LETTERS = {
    **dict(zip("أبجده", "ABCDE", strict=True)),
    "ا": "A",
    **dict(zip("אבגדה", "ABCDE", strict=True)),
    **dict(zip("অবডঢ", "ABCD", strict=True)),
    **dict(zip("কখগঘঙ", "ABCDE", strict=True)),
    **dict(zip("कखगघङ", "ABCDE", strict=True)),
    **dict(zip("กขคง", "ABCD", strict=True)),
}
"""Letters that name choices in other scripts; full-width Latin ones are Latin after Unicode's normalisation (NFKC)."""

_MARKUP = r"""\s*_"'`“”«»(\[{$"""
# A choice is a letter of its own: none of its script follows. "a" and "I" are words as well, hence the two cases more.
_LETTER = (
    r"(?:[A-HJＡ-Ｊ]|I(?!\s+\w))(?![A-Za-zÀ-ɏ0-9'’])"
    r"|[a-j](?=\s*(?:[.,;:)\]}*_\"'`$。]|\n|$))"
    rf"|[{''.join(OTHER_LETTERS)}](?![\u05d0-\u05ea\u0620-\u064a\u0900-\u0963\u0980-\u09ff\u0e01-\u0e4e])"
)

DEFAULT_REGEXES = (
    # LaTeX: \boxed{B}, \boxed{\text{(B)}}
    r"\\boxed\{\s*(?:\\[a-z]+\{)?[\s(]*([A-Ja-j])[\s)]*\}",
    # An answer word, perhaps "correct", "choice" or a copula, a colon, markup: "Answer: B", "the answer is **(B)**"
    rf"(?i:{'|'.join(ANSWER_WORDS)})(?i:\s+corr?e\w*)?(?i:\s+(?:choice|option|letter))?[{_MARKUP})\]}}>]*+"
    rf"(?:(?i:{'|'.join(_COPULAS)})(?![a-z]))?[{_MARKUP}]*+[:：=\-–]*+[{_MARKUP}]*+"
    rf"(?i:(?:option|choice|letter)\s)?[{_MARKUP}]*+(?:\\[a-z]+\{{)?({_LETTER})",
    # Nothing but the letter: "B", "(b).", "**B**"
    rf"^[{_MARKUP}]*([A-Ja-jＡ-Ｊ{''.join(OTHER_LETTERS)}])[\s*_\"'`”»)\]}}$.,:。]*$",
    # The letter, then what it stands for: "B) Paris", "**B.** Paris", "(B) Paris"
    rf"^[{_MARKUP}]*([A-JＡ-Ｊ])[*_]*[.):\]：）]",
)
"""From the most to the least certain way to name a choice; the first that matches counts."""


def normalised(choice: str) -> str:
    """A choice without markup, brackets and punctuation, one letter as its Latin capital: "**(b)**" is "B"."""
    bare = unicodedata.normalize("NFKC", choice).strip(" \t\r\n*_()[]{}<>.,:;!?\"'`$\\“”«»。、")
    return OTHER_LETTERS.get(bare, bare).upper()


def expected_choice(answer: str) -> str:
    """The expected choice: "B", "(b)", and also "B. Paris", which names the letter before the text."""
    letter = re.match(r"\s*\(?([A-Ja-j])[.):]\s", answer)
    return letter.group(1).upper() if letter else normalised(answer)


def _prepare(params: RegexParserScoringFnParams, pointer: str) -> Scorer:
    refuse_matching(params, pointer)
    patterns = regexes.compile_all(params.parsing_regexes, f"{pointer}/parsing_regexes")

    async def score(sample: Sample, _ask: Ask) -> Score:
        found = await regexes.find(patterns, sample.generated_answer)
        assert sample.expected_answer is not None
        extracted = None if found is None else normalised(found)
        is_right = extracted is not None and extracted == expected_choice(sample.expected_answer)
        return {"score": 1.0 if is_right else 0.0, "extracted_answer": extracted}

    return Scorer(score, needs_expected_answer=True)


MULTIPLE_CHOICE = ScoringFunction(
    description="1.0 if the choice read from the generated answer by regexes is the expected one, else 0.0.",
    return_type="number",
    defaults=RegexParserScoringFnParams(
        parsing_regexes=list(DEFAULT_REGEXES), aggregation_functions=[AggregationFunctionType.ACCURACY]
    ),
    prepare=_prepare,
)

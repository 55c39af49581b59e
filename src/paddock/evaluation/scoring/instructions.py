"""The 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911, table 1): what each asks, and whether an
answer follows it.

Checks run in a process of their own (`killable`): nltk and langdetect are loaded there. Texts that a row gives, such as
keywords and the words before a section's number, are taken as they are written, and not as regexes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

LESS_THAN, AT_LEAST = "less than", "at least"

_CONSTRAINED_RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


@dataclass(frozen=True)
class Instruction:
    """What may be asked: `follows(answer, **arguments)`, and the arguments that a row gives, by their types."""

    follows: Callable[..., bool]
    arguments: Mapping[str, type | tuple[type, ...]]


def has_keywords(answer: str, keywords: Sequence[str]) -> bool:
    """Each keyword stands somewhere in the answer, case ignored."""
    return all(keyword.lower() in answer.lower() for keyword in keywords)


def has_keyword_often(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword stands there at least, or less than, so often."""
    return _holds(answer.lower().count(keyword.strip().lower()), relation, frequency)


def lacks_words(answer: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words stands there as a word of its own."""
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in forbidden_words)


def has_letter_often(answer: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """The letter stands there at least, or less than, so often, case ignored."""
    return _holds(answer.lower().count(letter.strip().lower()), let_relation, let_frequency)


def is_in_language(answer: str, language: str) -> bool:
    """The whole answer is in the language of this ISO 639-1 code. A text that is in none, such as numbers, passes."""
    found = _language(answer)
    return found is None or found == language


def has_sentences(answer: str, num_sentences: int, relation: str) -> bool:
    """At least, or less than, so many sentences."""
    return _holds(len(_sentences(answer)), relation, num_sentences)


def has_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between dividers (`***`); none of them empty but before the first and behind the last."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", answer)]
    inner = paragraphs[not paragraphs[0] : len(paragraphs) - (len(paragraphs) > 1 and not paragraphs[-1])]
    return all(inner) and len(inner) == num_paragraphs


def has_words(answer: str, num_words: int, relation: str) -> bool:
    """At least, or less than, so many words."""
    from nltk.tokenize import RegexpTokenizer

    return _holds(len(RegexpTokenizer(r"\w+").tokenize(answer)), relation, num_words)


def has_first_word(answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs between empty lines, and the nth begins with the word, up to a punctuation mark, case ignored."""
    paragraphs = [paragraph.strip() for paragraph in answer.split("\n\n")]
    num_found = sum(bool(paragraph) for paragraph in paragraphs)
    if num_found != num_paragraphs or not 1 <= nth_paragraph <= num_found or not paragraphs[nth_paragraph - 1]:
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def has_placeholders(answer: str, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets, such as [name]."""
    return len(re.findall(r"\[[^\]\n]*\]", answer)) >= num_placeholders


def has_postscript(answer: str, postscript_marker: str) -> bool:
    """A postscript after the marker: "P.S." and "P.P.S" also with spaces, case ignored."""
    marker = postscript_marker.strip()
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(spaced.get(marker, re.escape(marker.lower())), answer.lower()) is not None


def has_bullets(answer: str, num_bullets: int) -> bool:
    """Exactly so many bullet points: lines that begin with one asterisk or with a hyphen."""
    return len(re.findall(r"^\s*(?:\*[^*]|-)", answer, re.MULTILINE)) == num_bullets


def is_constrained(answer: str) -> bool:
    """One of the three sentences that answer a yes-or-no question."""
    return any(response in answer for response in _CONSTRAINED_RESPONSES)


def has_highlights(answer: str, num_highlights: int) -> bool:
    """At least so many sections between *asterisks* that are not blank; one between **two** counts once more."""
    single = re.findall(r"\*([^\n*]*)\*", answer)
    double = re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(bool(text.strip()) for text in single + double) >= num_highlights


def has_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each begun with the word and a number, such as "Section 1"."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", answer)) >= num_sections


def is_json(answer: str) -> bool:
    """All of the answer is JSON, perhaps between fences of code."""
    text = answer.strip()
    text = re.sub(r"^```(?:json|Json|JSON)?", "", text).removesuffix("```")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def has_title(answer: str) -> bool:
    """A title in double angular brackets, such as <<poem of joy>>."""
    return any(title.strip("<> \t") for title in re.findall(r"<<([^\n]+)>>", answer))


def is_two_responses(answer: str) -> bool:
    """Two different answers with ****** between them."""
    parts = [part.strip() for part in answer.split("******")]
    inner = parts[not parts[0] : len(parts) - (len(parts) > 1 and not parts[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def repeats_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The answer begins with the prompt, case ignored."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(answer: str, end_phrase: str) -> bool:
    """The answer ends with the phrase, case and quotes around the answer ignored."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_quoted(answer: str) -> bool:
    """All of the answer stands in double quotes."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def has_capital_words(answer: str, capital_frequency: int, capital_relation: str) -> bool:
    """At least, or less than, so many words in capitals only."""
    from nltk.tokenize import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    words = [word for sentence in _sentences(answer) for word in tokenizer.tokenize(sentence)]
    return _holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def is_english_in_capitals(answer: str) -> bool:
    """English, and no small letter."""
    return answer.isupper() and is_in_language(answer, "en")


def is_english_in_small_letters(answer: str) -> bool:
    """English, and no capital letter."""
    return answer.islower() and is_in_language(answer, "en")


def lacks_commas(answer: str) -> bool:
    """No comma at all."""
    return "," not in answer


_NUMBER = (int, float)

INSTRUCTIONS: dict[str, Instruction] = {
    "keywords:existence": Instruction(has_keywords, {"keywords": list}),
    "keywords:frequency": Instruction(has_keyword_often, {"keyword": str, "frequency": _NUMBER, "relation": str}),
    "keywords:forbidden_words": Instruction(lacks_words, {"forbidden_words": list}),
    "keywords:letter_frequency": Instruction(
        has_letter_often, {"letter": str, "let_frequency": _NUMBER, "let_relation": str}
    ),
    "language:response_language": Instruction(is_in_language, {"language": str}),
    "length_constraints:number_sentences": Instruction(has_sentences, {"num_sentences": _NUMBER, "relation": str}),
    "length_constraints:number_paragraphs": Instruction(has_paragraphs, {"num_paragraphs": _NUMBER}),
    "length_constraints:number_words": Instruction(has_words, {"num_words": _NUMBER, "relation": str}),
    "length_constraints:nth_paragraph_first_word": Instruction(
        has_first_word, {"num_paragraphs": _NUMBER, "nth_paragraph": int, "first_word": str}
    ),
    "detectable_content:number_placeholders": Instruction(has_placeholders, {"num_placeholders": _NUMBER}),
    "detectable_content:postscript": Instruction(has_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": Instruction(has_bullets, {"num_bullets": _NUMBER}),
    "detectable_format:constrained_response": Instruction(is_constrained, {}),
    "detectable_format:number_highlighted_sections": Instruction(has_highlights, {"num_highlights": _NUMBER}),
    "detectable_format:multiple_sections": Instruction(has_sections, {"section_spliter": str, "num_sections": _NUMBER}),
    "detectable_format:json_format": Instruction(is_json, {}),
    "detectable_format:title": Instruction(has_title, {}),
    "combination:two_responses": Instruction(is_two_responses, {}),
    "combination:repeat_prompt": Instruction(repeats_prompt, {"prompt_to_repeat": str}),
    "startend:end_checker": Instruction(ends_with, {"end_phrase": str}),
    "startend:quotation": Instruction(is_quoted, {}),
    "change_case:capital_word_frequency": Instruction(
        has_capital_words, {"capital_frequency": _NUMBER, "capital_relation": str}
    ),
    "change_case:english_capital": Instruction(is_english_in_capitals, {}),
    "change_case:english_lowercase": Instruction(is_english_in_small_letters, {}),
    "punctuation:no_comma": Instruction(lacks_commas, {}),
}
"""Instruction id, as IFEval's rows have it → what it asks."""


def problem_with(instruction_id: str, arguments: Mapping[str, Any]) -> str | None:
    """Why this is no instruction that can be checked, in words, or None."""
    instruction = INSTRUCTIONS.get(instruction_id)
    if instruction is None:
        return f"There is no instruction {instruction_id!r}."
    for name, kind in instruction.arguments.items():
        value = arguments.get(name)
        if isinstance(value, bool) or not isinstance(value, kind):
            return f"The instruction {instruction_id!r} needs `{name}`."
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return f"The instruction {instruction_id!r} needs texts in `{name}`."
        if name.endswith("relation") and value not in (LESS_THAN, AT_LEAST):
            return f"`{name}` of the instruction {instruction_id!r} is {LESS_THAN!r} or {AT_LEAST!r}."
    return None


def follows(answer: str, instruction_id: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an answer follows an instruction that has no `problem_with` it. A blank answer follows none."""
    instruction = INSTRUCTIONS[instruction_id]
    needed = {name: arguments[name] for name in instruction.arguments}
    return bool(answer.strip()) and instruction.follows(answer, **needed)


def _holds(count: int, relation: str, bound: float) -> bool:
    return count < bound if relation == LESS_THAN else count >= bound


def _language(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, or None where nothing tells it."""
    import langdetect
    from langdetect.lang_detect_exception import LangDetectException

    langdetect.DetectorFactory.seed = 0  # it draws: without a seed the same text may get another language
    try:
        return str(langdetect.detect(text))
    except LangDetectException:
        return None


def _sentences(text: str) -> Sequence[str]:
    return list(_sentence_tokenizer().tokenize(text))


@cache
def _sentence_tokenizer() -> Any:
    """nltk's Punkt (Kiss and Strunk 2006) with the tables of its trained English model, as IFEval counts sentences."""
    import punkt
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    trained, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types = set(trained.abbrev_types)
    parameters.collocations = set(trained.collocations)
    parameters.sent_starters = set(trained.sent_starters)
    parameters.ortho_context.update(trained.ortho_context)
    return PunktSentenceTokenizer(parameters)

"""`text::exact_match`, `text::f1`, `text::bleu`, `text::chrf`, `text::rouge`: how much of the expected text the generated
one has, row by row.

Exact match and F1 are SQuAD's (Rajpurkar et al. 2016, arXiv:1606.05250), BLEU and chrF sacrebleu's sentence scores from 0 to
100 (Post 2018, arXiv:1804.08771), ROUGE the F-measures of the package rouge-score. Their average over rows is a macro
average; the corpus-level BLEU of the papers is another figure.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring import killable
from paddock.evaluation.scoring.function import Ask, Sample, Score, Scorer, ScoringFunction

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_tokens(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def exact_match(expected: str, generated: str) -> Score:
    """1.0 where both have the same words in the same order."""
    return {"score": float(squad_tokens(expected) == squad_tokens(generated))}


def f1(expected: str, generated: str) -> Score:
    """The harmonic mean of precision and recall of words. Where either has none, 1.0 if neither has."""
    gold, given = Counter(squad_tokens(expected)), Counter(squad_tokens(generated))
    if not gold or not given:
        return {"score": float(gold == given)}
    num_shared = (gold & given).total()
    precision, recall = num_shared / given.total(), num_shared / gold.total()
    return {
        "score": 2 * precision * recall / (precision + recall) if num_shared else 0.0,
        "precision": precision,
        "recall": recall,
    }


def bleu(expected: str, generated: str) -> Score:
    """Sentence BLEU of up to four words, with sacrebleu's smoothing and tokenisation (13a)."""
    from sacrebleu import sentence_bleu

    return {"score": sentence_bleu(generated, [expected]).score}


def chrf(expected: str, generated: str) -> Score:
    """chrF2: the F-measure, recall counting twice, of up to six letters (Popović 2015)."""
    from sacrebleu import sentence_chrf

    return {"score": sentence_chrf(generated, [expected]).score}


def rouge(expected: str, generated: str) -> Score:
    """ROUGE-L's F-measure as the score, ROUGE-1's and ROUGE-2's beside it (Lin 2004); words are not stemmed."""
    from rouge_score.rouge_scorer import RougeScorer

    found = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(expected, generated)
    return {
        "score": found["rougeL"].fmeasure,
        "rouge1": found["rouge1"].fmeasure,
        "rouge2": found["rouge2"].fmeasure,
    }


def _function(measure: Callable[[str, str], Score], library: str | None, description: str) -> ScoringFunction:
    async def score(sample: Sample, _ask: Ask) -> Score:
        assert sample.expected_answer is not None
        if library is None:
            return measure(sample.expected_answer, sample.generated_answer)
        return await killable.call(measure, sample.expected_answer, sample.generated_answer)

    def prepare(_params: Any, pointer: str) -> Scorer:
        if library is not None:
            killable.require(pointer, library)
        return Scorer(score, needs_expected_answer=True)

    return ScoringFunction(
        description=description,
        return_type="number",
        defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.AVERAGE]),
        prepare=prepare,
    )


TEXT_OVERLAP: dict[str, ScoringFunction] = {
    "text::exact_match": _function(
        exact_match, None, "1.0 if both texts have the same words, without case, punctuation and articles, else 0.0."
    ),
    "text::f1": _function(f1, None, "The F1 of the words that both texts share, 0 to 1."),
    "text::bleu": _function(bleu, "sacrebleu", "Sentence BLEU, 0 to 100."),
    "text::chrf": _function(chrf, "sacrebleu", "chrF2 of the sentence, 0 to 100."),
    "text::rouge": _function(rouge, "rouge_score", "ROUGE-L's F-measure, 0 to 1; ROUGE-1 and ROUGE-2 beside it."),
}

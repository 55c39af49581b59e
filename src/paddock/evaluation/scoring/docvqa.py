"""`basic::docvqa`: 1.0 where the generated answer is one of the expected ones after normalisation, else 0.0; and `anls`.

ANLS is the average normalised Levenshtein similarity of DocVQA (Biten et al. 2019, arXiv:1905.13648): of the best of the
expected answers, and 0 where that is below 1/2. The expected answer is a text, or a JSON list of texts.
"""

from __future__ import annotations

import json
import unicodedata

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring import killable
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction

THRESHOLD = 0.5


def normalised(text: str) -> str:
    """Lower case, white space folded, without quotes around it and a full stop behind it."""
    return folded(unicodedata.normalize("NFKC", text)).strip("\"'“”‘’`").removesuffix(".").strip()


def folded(text: str) -> str:
    """Lower case and white space folded, which is all that ANLS leaves out of account."""
    return " ".join(text.lower().split())


def expected_answers(text: str) -> list[str]:
    """Those of a JSON list of texts, else the text itself."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(parsed, list) and parsed and all(isinstance(item, str) for item in parsed):
        return parsed
    return [text]


def anls(generated: str, *expected: str) -> float:
    """The greatest similarity to any of the expected texts, 1 less the edit distance over the length of the longer text;
    0 below `THRESHOLD`. All are `folded`."""
    from rapidfuzz.distance import Levenshtein

    similarity: float = max(Levenshtein.normalized_similarity(generated, answer) for answer in expected)
    return similarity if similarity >= THRESHOLD else 0.0


def _prepare(_params: BasicScoringFnParams, pointer: str) -> Scorer:
    killable.require(pointer, "rapidfuzz")
    return Scorer(score, needs_expected_answer=True)


async def score(sample: Sample, _ask: Ask) -> Score:
    """Both measures against the best of the expected answers."""
    assert sample.expected_answer is not None
    given = normalised(sample.generated_answer)
    answers = expected_answers(sample.expected_answer)
    expected = [normalised(answer) for answer in answers]
    if not any(expected):
        raise CannotScoreError("The expected answer is empty.")
    similarity = await killable.call(anls, folded(sample.generated_answer), *map(folded, answers))
    return {"score": 1.0 if given in expected else 0.0, "anls": similarity}


DOCVQA = ScoringFunction(
    description="1.0 if the generated answer is one of the expected ones after normalisation, else 0.0; ANLS beside it.",
    return_type="number",
    defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
    prepare=_prepare,
)

"""Scoring functions: a dict literal of those that come with Paddock. Adding one is a file, a line here and a test.

`function` says what one is, `regexes` runs clients' patterns safely, `killable` what may take long, `aggregation` turns
score rows into results; how sure those are is the business of `evaluation.statistics`.
"""

from __future__ import annotations

from paddock.evaluation.schemas import RegexParserScoringFnParams
from paddock.evaluation.scoring.bfcl import BFCL
from paddock.evaluation.scoring.braintrust import BRAINTRUST
from paddock.evaluation.scoring.docvqa import DOCVQA
from paddock.evaluation.scoring.equality import EQUALITY
from paddock.evaluation.scoring.filtered_match import FILTERED_MATCH
from paddock.evaluation.scoring.function import Params, ScoringFunction
from paddock.evaluation.scoring.ifeval import IFEVAL
from paddock.evaluation.scoring.judge import JUDGE
from paddock.evaluation.scoring.likelihood import LIKELIHOOD
from paddock.evaluation.scoring.math_response import MATH_RESPONSE
from paddock.evaluation.scoring.multiple_choice import MULTIPLE_CHOICE
from paddock.evaluation.scoring.simpleqa import SIMPLEQA
from paddock.evaluation.scoring.subset_of import SUBSET_OF
from paddock.evaluation.scoring.text_overlap import TEXT_OVERLAP

SCORING_FUNCTIONS: dict[str, ScoringFunction] = {
    "basic::equality": EQUALITY,
    "basic::subset_of": SUBSET_OF,
    "basic::regex_parser_multiple_choice_answer": MULTIPLE_CHOICE,
    "basic::regex_parser_math_response": MATH_RESPONSE,
    "basic::docvqa": DOCVQA,
    "basic::ifeval": IFEVAL,
    "basic::bfcl": BFCL,
    "llm-as-judge::base": JUDGE,
    "llm-as-judge::405b-simpleqa": SIMPLEQA,
    "text::filtered_exact_match": FILTERED_MATCH,
    **TEXT_OVERLAP,
    **LIKELIHOOD,
    **BRAINTRUST,
}
"""Function id → what it does. A job stores the id, so an id keeps its meaning."""

KINDS: dict[str, str] = {
    "basic": "basic::equality",
    "regex_parser": "basic::regex_parser_multiple_choice_answer",
    "llm_as_judge": "llm-as-judge::base",
}
"""`params.type` of a function that a user registered → the function that does its work, unless `kind_of` knows better."""


def kind_of(params: Params) -> str:
    """The function that does the work of one that a user registered with these parameters."""
    if isinstance(params, RegexParserScoringFnParams) and params.matching is not None:
        return "text::filtered_exact_match"
    return KINDS[params.type]

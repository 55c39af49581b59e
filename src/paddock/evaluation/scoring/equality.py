"""`basic::equality`: 1.0 where the generated answer is the expected one, character for character, else 0.0."""

from __future__ import annotations

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring.function import Ask, Sample, Score, Scorer, ScoringFunction


async def score(sample: Sample, _ask: Ask) -> Score:
    """Case, spaces and line ends count. Source: `basic::equality` of Llama Stack."""
    return {"score": 1.0 if sample.generated_answer == sample.expected_answer else 0.0}


def _prepare(_params: BasicScoringFnParams, _pointer: str) -> Scorer:
    return Scorer(score, needs_expected_answer=True)


EQUALITY = ScoringFunction(
    description="1.0 if the generated answer equals the expected one, character for character, else 0.0.",
    return_type="number",
    defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
    prepare=_prepare,
)

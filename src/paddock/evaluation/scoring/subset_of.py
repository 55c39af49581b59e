"""`basic::subset_of`: 1.0 where the generated answer contains the expected one, else 0.0."""

from __future__ import annotations

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction


async def score(sample: Sample, _ask: Ask) -> Score:
    """The expected answer as one piece, case and spaces included. Source: `basic::subset_of` of Llama Stack.

    An empty expected answer stands in every text and would say nothing: such a row is not scored."""
    if not sample.expected_answer:
        raise CannotScoreError("The expected answer is empty, which every answer contains.")
    return {"score": 1.0 if sample.expected_answer in sample.generated_answer else 0.0}


def _prepare(_params: BasicScoringFnParams, _pointer: str) -> Scorer:
    return Scorer(score, needs_expected_answer=True)


SUBSET_OF = ScoringFunction(
    description="1.0 if the generated answer contains the expected one, else 0.0.",
    return_type="number",
    defaults=BasicScoringFnParams(aggregation_functions=[AggregationFunctionType.ACCURACY]),
    prepare=_prepare,
)

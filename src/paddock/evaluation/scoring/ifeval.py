"""`basic::ifeval`: the share of a row's verifiable instructions that the generated answer follows (IFEval, Zhou et al. 2023,
arXiv:2311.07911).

A row names them as IFEval's own rows do: `instruction_id_list`, and in `kwargs` the arguments of each. The score is the
strict share, `loose` the one of the paper's eight variants of the answer (without its first line, its last one, asterisks).
The score row's `weight` is the number of instructions, so that the weighted average is the paper's instruction-level
accuracy; `follows_all` and `follows_all_loose` are the prompt-level ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from paddock.evaluation.schemas import AggregationFunctionType, BasicScoringFnParams
from paddock.evaluation.scoring import instructions, killable
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction


def asked(row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The row's instructions with their arguments. Raises `CannotScoreError` if they cannot be read."""
    ids, arguments = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
        raise CannotScoreError("The row's `instruction_id_list` must be a list of instructions.")
    arguments = [{}] * len(ids) if arguments is None else arguments
    if not isinstance(arguments, list) or len(arguments) != len(ids):
        raise CannotScoreError("The row's `kwargs` must be a list with the arguments of each instruction.")
    found = []
    for instruction_id, given in zip(ids, arguments, strict=True):
        if not isinstance(given, dict | None):
            raise CannotScoreError("Each of the row's `kwargs` must be an object.")
        problem = instructions.problem_with(instruction_id, given or {})
        if problem is not None:
            raise CannotScoreError(problem)
        found.append((instruction_id, given or {}))
    return found


def judge(answer: str, asked_json: str) -> tuple[list[bool], list[bool]]:
    """Which instructions the answer follows, strictly and loosely. For a process of its own."""
    wanted = json.loads(asked_json)
    strict = [instructions.follows(answer, *instruction) for instruction in wanted]
    others = list(dict.fromkeys(variants(answer)))  # most are the same where there is no asterisk
    loose = [
        followed or any(instructions.follows(variant, *instruction) for variant in others)
        for followed, instruction in zip(strict, wanted, strict=True)
    ]
    return strict, loose


def variants(answer: str) -> list[str]:
    """The answer without its first line, its last one, or both, each with and without asterisks."""
    lines = answer.split("\n")
    shortened = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [variant.replace("*", "") for variant in (answer, *shortened)] + shortened


async def score(sample: Sample, _ask: Ask) -> Score:
    """The share of instructions that are followed, strictly; and all that the paper reports."""
    wanted = asked(sample.row)
    strict, loose = await killable.call(judge, sample.generated_answer, json.dumps(wanted))
    return {
        "score": sum(strict) / len(strict),
        "weight": float(len(strict)),
        "loose": sum(loose) / len(loose),
        "follows_all": all(strict),
        "follows_all_loose": all(loose),
        "instructions": [
            {"instruction_id": instruction_id, "follows": one, "follows_loose": other}
            for (instruction_id, _), one, other in zip(wanted, strict, loose, strict=True)
        ],
    }


def _prepare(_params: BasicScoringFnParams, pointer: str) -> Scorer:
    killable.require(pointer, "langdetect", "nltk", "punkt")
    return Scorer(score, needs_expected_answer=False, columns=("instruction_id_list",))


IFEVAL = ScoringFunction(
    description="The share of the row's verifiable instructions (IFEval) that the generated answer follows.",
    return_type="number",
    defaults=BasicScoringFnParams(
        aggregation_functions=[AggregationFunctionType.WEIGHTED_AVERAGE, AggregationFunctionType.AVERAGE]
    ),
    prepare=_prepare,
)

"""Scoring functions against what their reference implementations said of the same answers, recorded beside this file by
`record_verdicts.py`: IFEval's and BFCL's own checks, lm-evaluation-harness on log-likelihoods and exact matches, and Llama
Stack, whose functions bear the names of ours.

A case in which ours differs on purpose names the difference (`differs`), and `docs/scoring.md` has its reason.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from paddock.evaluation.scoring import SCORING_FUNCTIONS, bfcl, ifeval
from paddock.evaluation.scoring.function import GREEDY, Sample
from paddock.evaluation.scoring.instructions import INSTRUCTIONS, problem_with
from paddock.inference.engine import Sampling
from scoring_references import documented_cases, documented_differences, recorded, score_all


def test_ifeval() -> None:
    (head, *cases), outcomes, differing = recorded("ifeval_verdicts.jsonl"), Counter(), set()
    assert len(cases) == documented_cases()["basic::ifeval"]
    instructions = head["instructions"]
    assert instructions.keys() == INSTRUCTIONS.keys()
    for case in cases:
        asked = [(name, instructions[name][which]) for name, which in zip(instructions, case["variants"], strict=True)]
        assert not any(problem_with(*instruction) for instruction in asked)
        found = ifeval.judge(case["answer"], json.dumps(asked))
        references = ([verdict == "1" for verdict in case[kind]] for kind in ("strict", "loose"))
        differs = case.get("differs", {})
        for name, ours, theirs in zip(
            instructions, zip(*found, strict=True), zip(*references, strict=True), strict=True
        ):
            assert (ours != theirs) == (name in differs), (name, case)
            outcomes[name, theirs[0]] += 1
        differing |= set(differs.values())
    assert differing <= documented_differences("basic::ifeval")
    # Of each instruction both answers that follow it and answers that do not.
    assert min(outcomes[name, verdict] for name in instructions for verdict in (True, False)) >= 5


def test_bfcl() -> None:
    schemas, *cases = recorded("bfcl_verdicts.jsonl")
    assert len(cases) == documented_cases()["basic::bfcl"]
    differing = set()
    for case in cases:
        functions, expected = [schemas["functions"][name] for name in case["functions"]], case["expected"]
        language = case.get("language", "python")
        found = bfcl.compare(case["answer"], case["category"], language, json.dumps(functions), json.dumps(expected))
        assert (found["score"] != case["score"]) == ("differs" in case), (case, found)
        differing.add(case.get("differs"))
    assert differing - {None} == documented_differences("basic::bfcl")
    outcomes = Counter((case["category"], case["score"]) for case in cases)
    for category in ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance", "live_relevance"):
        assert min(outcomes[category, 0.0], outcomes[category, 1.0]) >= 4
    for category in ("simple_java", "simple_javascript"):
        assert min(outcomes[category, 0.0], outcomes[category, 1.0]) >= 40


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes"])
def test_log_likelihoods(metric: str) -> None:
    cases = recorded("likelihood_verdicts.jsonl")
    assert len(cases) == documented_cases()[f"loglikelihood::{metric}"]
    function = SCORING_FUNCTIONS[f"loglikelihood::{metric}"]
    scorer = function.prepare(function.defaults, "")

    async def nobody(_prompt: str, _sampling: Sampling = GREEDY) -> str:
        raise AssertionError("it asks no judge")

    for case in cases:
        answer = case["answer"] if isinstance(case["answer"], int) else json.dumps(case["answer"])
        row = {"choices": case["choices"], "answer": case["answer"] if isinstance(case["answer"], str) else answer}
        sample = Sample("q", None, "", row, log_likelihoods=case["log_likelihoods"])
        assert asyncio.run(scorer.score(sample, nobody))["score"] == case[metric], case
    outcomes = Counter(case[metric] for case in cases)
    assert min(outcomes[0.0], outcomes[1.0]) >= 20
    assert any(case["acc"] != case[metric] for case in cases) == (metric != "acc")


def test_filtered_exact_match() -> None:
    cases, outcomes, differing = recorded("exact_match_verdicts.jsonl"), Counter(), set()
    assert len(cases) == documented_cases()["text::filtered_exact_match"]
    for case in cases:
        params = {"parsing_regexes": case["regexes"], "matching": case["matching"]}
        (row,) = score_all("text::filtered_exact_match", [(case["expected"], case["answer"])], **params)
        if "differs" in case:
            differing.add(case["differs"])
            assert "error" in row or row != {"score": case["score"], "extracted_answer": case["extracted"]}, case
            continue
        assert row == {"score": case["score"], "extracted_answer": case["extracted"]}, case
        outcomes[case["score"]] += 1
    assert min(outcomes[0.0], outcomes[1.0]) >= 20
    assert differing == documented_differences("text::filtered_exact_match")


FROM_LLAMA_STACK = [
    "basic::equality",
    "basic::subset_of",
    "basic::regex_parser_multiple_choice_answer",
    "basic::docvqa",
    "llm-as-judge::base",
    "llm-as-judge::405b-simpleqa",
]


@pytest.mark.parametrize("function_id", FROM_LLAMA_STACK)
def test_llama_stack(function_id: str) -> None:
    head, *cases = recorded("llama_stack_verdicts.jsonl")
    cases = [case for case in cases if case["function"] == function_id]
    assert len(cases) == documented_cases()[function_id]
    if "reply" in cases[0]:
        params = {"judge_model": "judge", **head["parameters"].get(function_id, {})}
        rows = [score_all(function_id, [("e", "g")], case["reply"], **params)[0] for case in cases]
    else:
        rows = score_all(function_id, [(case["expected"], case["generated"]) for case in cases])
    differing, outcomes = set(), Counter()
    for case, row in zip(cases, rows, strict=True):
        score, reference = row["score"], case["score"]
        if function_id == "llm-as-judge::base" and score is not None:  # Llama Stack's scores of judges are all text
            assert isinstance(score, str) == (not reference.replace(".", "").isdigit())
            score = str(score)
        is_other = score != reference or ("anls" in case and row["anls"] != pytest.approx(case["anls"]))
        assert is_other == ("differs" in case), (case, row)
        differing.add(case.get("differs"))
        outcomes[reference] += 1
    assert differing - {None} == documented_differences(function_id)
    assert sorted(outcomes.values())[-2] >= 10

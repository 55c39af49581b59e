"""IFEval and BFCL against what their reference implementations said of the same answers, recorded beside this file by
`record_verdicts.py`.

A case in which ours differs on purpose names the difference (`differs`), and `docs/scoring.md` has its reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from paddock.evaluation.scoring import bfcl, ifeval
from paddock.evaluation.scoring.instructions import INSTRUCTIONS, problem_with

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "scoring.md").read_text(encoding="utf-8")


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def documented_differences(function_id: str) -> set[str]:
    """What `docs/scoring.md` names as differences of a function from its reference."""
    section = PAGE.partition(f"\n## `{function_id}`\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE))


def test_ifeval() -> None:
    (head, *cases), outcomes, differing = recorded("ifeval_verdicts.jsonl"), Counter(), set()
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

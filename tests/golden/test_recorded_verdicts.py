"""IFEval and BFCL against what their reference implementations said of the same answers, recorded beside this file.

`ifeval_verdicts.jsonl`: lm-evaluation-harness 0.4.13, which carries the paper's own checks, with langdetect seeded by 0.
Instructions that count sentences are not in it: the reference does so with nltk's trained English model, a download that
this project does without; `test_ifeval.py` has them by hand.

`bfcl_verdicts.jsonl`: bfcl-eval 2026.3.23. Where ours differs, on purpose:
- calls that could be matched in more than one way are matched as well as possible, the reference takes the first that fits;
- inside objects and lists 1 is not true and 30.0 is no 30 where an integer is declared, the reference asks Python's ==;
- a list that may be left out is not the same as an empty one;
- arguments without a name are no call, the reference drops them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from paddock.evaluation.scoring import bfcl, ifeval
from paddock.evaluation.scoring.instructions import INSTRUCTIONS, problem_with

HERE = Path(__file__).parent


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def test_ifeval() -> None:
    cases = recorded("ifeval_verdicts.jsonl")
    differences, outcomes = [], Counter()
    for case in cases:
        asked = [(case["instruction_id"], case["kwargs"])]
        assert problem_with(*asked[0]) is None
        (strict,), (loose,) = ifeval.judge(case["answer"], json.dumps(asked))
        outcomes[case["instruction_id"], case["strict"]] += 1
        if (strict, loose) != (case["strict"], case["loose"]):
            differences.append(case)
    assert differences == []
    assert len(cases) >= 150
    counted = {name for name in INSTRUCTIONS if name.endswith(("number_sentences", "capital_word_frequency"))}
    assert {name for name, _ in outcomes} == INSTRUCTIONS.keys() - counted
    # Of each instruction both answers that follow it and answers that do not.
    assert {(name, verdict) for name, _ in outcomes for verdict in (True, False)} == outcomes.keys()


def test_bfcl() -> None:
    schemas, *cases = recorded("bfcl_verdicts.jsonl")
    differences = []
    for case in cases:
        functions = [schemas["functions"][name] for name in case["functions"]]
        found = bfcl.compare(case["answer"], case["category"], json.dumps(functions), json.dumps(case["expected"]))
        if found["score"] != case["score"]:
            differences.append((case, found))
    assert differences == []
    assert Counter(case["score"] for case in cases)[1.0] >= 80
    assert Counter(case["score"] for case in cases)[0.0] >= 100

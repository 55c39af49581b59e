"""What tests of scoring functions beside their references share: the recorded verdicts, and what docs/scoring.md says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from paddock.evaluation.scoring import SCORING_FUNCTIONS
from paddock.evaluation.scoring.function import GREEDY, CannotScoreError, Sample, Score, completed
from paddock.inference.engine import Sampling

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "scoring.md").read_text(encoding="utf-8")


def recorded(name: str) -> list[dict[str, Any]]:
    """The lines of a file beside the golden tests."""
    return [json.loads(line) for line in (TESTS / "golden" / name).read_text(encoding="utf-8").splitlines()]


def documented_cases() -> dict[str, int]:
    """Function id → on how many cases the page says that it is compared."""
    rows = re.findall(r"^\| `(\S+?)` \| .+ \| ([\d,]+) \| .+ \|$", PAGE, re.MULTILINE)
    return {function_id: int(count.replace(",", "")) for function_id, count in rows}


def documented_differences(function_id: str) -> set[str]:
    """What the page names as differences of a function from its reference."""
    section = PAGE.partition(f"\n## `{function_id}`\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE))


def score_all(function_id: str, cases: list[tuple[str, str]], reply: str = "", **params: Any) -> list[Score]:
    """The score rows of (expected, generated) pairs; a failed one says so in `error`. A judge replies with `reply`."""
    function = SCORING_FUNCTIONS[function_id]
    defaults = function.defaults
    scorer = function.prepare(completed(type(defaults)(**params), defaults) if params else defaults, "")

    async def ask(_prompt: str, _sampling: Sampling = GREEDY) -> str:
        return reply

    async def one(expected: str, generated: str) -> Score:
        try:
            return await scorer.score(Sample("q", expected, generated), ask)
        except CannotScoreError as error:
            return {"score": None, "error": error.reason}

    async def every() -> list[Score]:
        return [await one(*case) for case in cases]

    return asyncio.run(every())

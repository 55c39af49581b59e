"""What each purpose needs of a row: its top-level columns. What stands in them is for the job that reads it.

The older columns of Llama Stack count where they mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Alternatives = tuple[tuple[str, ...], ...]
"""What stands in for a column: sets of older columns, any one of which will do."""

_ANSWER: Alternatives = (("expected_answer",),)

NEEDS: dict[str, dict[str, Alternatives]] = {
    "post-training/messages": {
        "messages": (
            ("dialog",),
            ("chosen", "rejected"),  # with a `prompt`, or each a whole conversation
            ("chat_completion_input", "expected_answer"),
            ("completion_input", "expected_answer"),
            ("input_query", "expected_answer"),
        )
    },
    "eval/question-answer": {
        "question": (("input_query",), ("chat_completion_input",), ("completion_input",)),
        "answer": _ANSWER,
    },
    "eval/messages-answer": {
        "messages": (("chat_completion_input",), ("completion_input",), ("input_query",), ("dialog",)),
        "answer": _ANSWER,
    },
}
"""Purpose → the columns that its rows must have → what stands in for each."""


def missing(purpose: str, row: Mapping[str, Any]) -> str | None:
    """The first column that a row lacks for `purpose`, by its present-day name, or None if it lacks nothing.

    A column that is null is lacking."""
    for column, alternatives in NEEDS[purpose].items():
        if row.get(column) is None and not any(
            all(row.get(c) is not None for c in columns) for columns in alternatives
        ):
            return column
    return None

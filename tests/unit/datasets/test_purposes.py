from __future__ import annotations

from typing import Any

import pytest

from paddock.datasets.purposes import NEEDS, missing
from paddock.datasets.schemas import DatasetPurpose


def test_every_purpose_is_known() -> None:
    assert set(NEEDS) == {purpose.value for purpose in DatasetPurpose}


@pytest.mark.parametrize(
    ("purpose", "row", "column"),
    [
        ("post-training/messages", {"messages": []}, None),
        ("post-training/messages", {"dialog": []}, None),
        ("post-training/messages", {"prompt": "a", "chosen": "b", "rejected": "c"}, None),
        ("post-training/messages", {"prompt": "a", "chosen": "b"}, "messages"),
        ("post-training/messages", {"chat_completion_input": "[]", "expected_answer": "b"}, None),
        ("post-training/messages", {"messages": None}, "messages"),
        ("post-training/messages", {"question": "a", "answer": "b"}, "messages"),
        ("eval/question-answer", {"question": "a", "answer": 4}, None),
        ("eval/question-answer", {"question": "a"}, "answer"),
        ("eval/question-answer", {"answer": "a"}, "question"),
        ("eval/question-answer", {"input_query": "a", "expected_answer": "b"}, None),
        ("eval/question-answer", {"messages": [], "answer": "b"}, "question"),
        ("eval/messages-answer", {"messages": [], "answer": ""}, None),
        ("eval/messages-answer", {"chat_completion_input": "[]", "expected_answer": "b"}, None),
        ("eval/messages-answer", {"question": "a", "answer": "b"}, "messages"),
    ],
)
def test_missing(purpose: str, row: dict[str, Any], column: str | None) -> None:
    assert missing(purpose, row) == column

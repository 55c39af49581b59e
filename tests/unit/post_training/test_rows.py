"""From a dataset's row to what is learnt of it, or the reason why nothing can be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paddock.post_training import rows
from paddock.post_training.rows import Conversation, RowError

USER = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
TOLD = (USER, ANSWER)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ANSWER]},
        {"dialog": [USER, ANSWER]},
        {"messages": json.dumps([USER, ANSWER])},
        {"messages": [USER], "answer": "4"},
        {"messages": [USER, ANSWER], "answer": "not this one"},
        {"chat_completion_input": json.dumps([USER]), "expected_answer": "4"},
        {"chat_completion_input": json.dumps(USER), "expected_answer": json.dumps(ANSWER)},
        {"input_query": "2 + 2?", "expected_answer": "4"},
        {"completion_input": "2 + 2?", "expected_answer": "4"},
        {"question": "2 + 2?", "answer": "4", "other": 1},
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"messages": None, "question": "2 + 2?", "answer": "4"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in ("2 + ", "2?")]}, ANSWER]},
        {"messages": [USER | {"name": None}, ANSWER | {"tool_calls": None}]},
    ],
)  # fmt: skip
def test_instruct_takes_one_prompt_and_its_answer(row: dict[str, Any]) -> None:
    assert rows.conversation(row, "instruct") == Conversation(TOLD, num_prompt=1)


def test_the_formats_differ_in_what_is_learnt() -> None:
    row = {"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]}
    assert rows.conversation(row, "instruct").num_prompt == 4
    assert rows.conversation(row, "dialog").num_prompt == 0


def test_tool_calls_are_read_as_templates_want_them() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "4", "tool_call_id": "x"}
    read = rows.conversation({"messages": [USER, turn, result, ANSWER]}, "dialog").messages
    assert read[1]["content"] == ""
    assert read[1]["tool_calls"][0]["function"]["arguments"] == {"a": 2}
    assert read[2] == result


@pytest.mark.parametrize(
    ("row", "data_format", "words"),
    [
        ({}, "instruct", "it has no `chat_completion_input` or"),
        ({}, "dialog", "it has no `messages` or `dialog`"),
        ({"question": "2 + 2?"}, "instruct", "it has no `expected_answer` or"),
        ({"question": "2 + 2?", "answer": "4"}, "dialog", "no `messages` or `dialog`"),
        ({"messages": []}, "dialog", "`messages` is not a list of messages"),
        ({"messages": 7}, "dialog", "`messages` is not a list of messages"),
        ({"messages": "hello"}, "dialog", "holds no JSON list"),
        ({"messages": [USER]}, "dialog", "no turn of the assistant"),
        ({"messages": [USER]}, "instruct", "it has no `expected_answer`"),
        ({"messages": [ANSWER]}, "instruct", "an answer without a prompt"),
        ({"messages": ["hello"]}, "dialog", r"`messages\[0\]` is not an object"),
        ({"messages": [USER, {"role": "bot", "content": "4"}]}, "dialog", r"`messages\[1\].role` must be one of"),
        ({"messages": [USER, {"role": "assistant"}]}, "dialog", r"`messages\[1\].content` is neither a text"),
        ({"messages": [USER, {"role": "assistant", "content": 4}]}, "dialog", r"`messages\[1\].content` is neither"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER]},
            "dialog",
            "an image, which a text model",
        ),
        (
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]},
            "dialog",
            r"tool_calls\[0\].function.arguments` is a text that holds no JSON",
        ),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "dialog", "has no `function`"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": {}}]}, "dialog", "tool_calls` is not a list"),
    ],
)
def test_unusable_rows_name_field_and_reason(row: dict[str, Any], data_format: str, words: str) -> None:
    with pytest.raises(RowError, match=words):
        rows.conversation(row, data_format)


WRONG = {"role": "assistant", "content": "5"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [WRONG]},
        {"prompt": json.dumps([USER]), "chosen": json.dumps([ANSWER]), "rejected": "5"},
        # Whole conversations repeat the prompt, which must not stand there twice.
        {"prompt": "2 + 2?", "chosen": [USER, ANSWER], "rejected": [USER, WRONG]},
        {"chosen": [USER, ANSWER], "rejected": [USER, WRONG]},
    ],
)
@pytest.mark.parametrize("data_format", ["instruct", "dialog"])
def test_pairs_share_their_prompt_once(row: dict[str, Any], data_format: str) -> None:
    pair = rows.preference(row, data_format)
    assert pair.chosen == Conversation((USER, ANSWER), num_prompt=1)
    assert pair.rejected == Conversation((USER, WRONG), num_prompt=1)


def test_dialog_pairs_learn_every_turn_after_the_prompt() -> None:
    row = {"prompt": "2 + 2?", "chosen": [ANSWER, USER, ANSWER], "rejected": "5"}
    assert rows.preference(row, "dialog").chosen.num_prompt == 1
    assert rows.preference(row, "instruct").chosen.num_prompt == 3


def test_answers_that_begin_alike_stay_whole() -> None:
    pair = rows.preference(
        {"chosen": [USER, ANSWER, USER, ANSWER], "rejected": [USER, ANSWER, SYSTEM, WRONG]}, "dialog"
    )
    assert pair.chosen.num_prompt == 1
    assert pair.chosen.messages == (USER, ANSWER, USER, ANSWER)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "chosen": "y"}, "`rejected` is missing"),
        ({"prompt": "x", "rejected": "y"}, "`chosen` is missing"),
        ({"chosen": "x", "rejected": "y"}, "`prompt` is missing"),
        ({"prompt": "x", "chosen": [USER], "rejected": "y"}, "`chosen` does not go on with a turn of the assistant"),
        ({"prompt": "x", "chosen": [USER, ANSWER], "rejected": "y"}, "`chosen` does not go on"),
        ({"prompt": [], "chosen": "x", "rejected": "y"}, "`prompt` is not a list of messages"),
    ],
)
def test_unusable_pairs(row: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        rows.preference(row, "instruct")

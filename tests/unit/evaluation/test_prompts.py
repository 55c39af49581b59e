from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation import prompts
from paddock.evaluation.prompts import UnreadableRowError
from paddock.evaluation.schemas import SystemMessage

TURNS = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "3+3?"},
]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n rest").decode()


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"question": "q"}, user("q")),
        ({"question": 42}, user("42")),
        ({"input_query": "q"}, user("q")),
        ({"messages": TURNS}, TURNS),
        ({"messages": json.dumps(TURNS)}, TURNS),
        ({"chat_completion_input": json.dumps(TURNS)}, TURNS),
        ({"chat_completion_input": {"messages": TURNS}}, TURNS),
        ({"dialog": TURNS}, TURNS),
        ({"dialog": json.dumps(TURNS)}, TURNS),
        ({"completion_input": '"Once upon"'}, user("Once upon")),
        ({"completion_input": '{"content": "Once upon"}'}, user("Once upon")),
        ({"completion_input": "Once upon"}, user("Once upon")),
        # the whole conversation stands over the bare question
        ({"input_query": "q", "chat_completion_input": json.dumps(TURNS)}, TURNS),
        ({"messages": None, "question": "q"}, user("q")),
        # an older turn's own fields are not sent, its older role has today's name
        (
            {"messages": [{"role": "ipython", "content": "7", "tool_call_id": "c", "stop_reason": "x"}]},
            [{"role": "tool", "content": "7", "tool_call_id": "c"}],
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]},
            [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}],
        ),
        # parts of the contract and of OpenAI
        (
            {
                "messages": user(
                    [{"type": "text", "text": "see"}, {"type": "image", "image": {"url": {"uri": "http://x/y"}}}]
                )
            },
            user([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "http://x/y"}}]),
        ),
        (
            {"messages": user({"type": "image", "image": {"data": PNG}})},
            user([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]),
        ),
        (
            {"messages": user([{"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}}, "and"])},
            user(
                [
                    {"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}},
                    {"type": "text", "text": "and"},
                ]
            ),
        ),
    ],
)
def test_rows_of_every_form(row: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    assert prompts.messages(row) == messages


def test_the_candidates_system_message_goes_in_front_of_all_turns() -> None:
    system = {"role": "system", "content": "Be brief."}
    row = {"messages": [{"role": "system", "content": "Be kind."}, *TURNS]}
    assert prompts.messages(row, system) == [system, *row["messages"]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "asks nothing"),
        ({"answer": "a"}, "asks nothing"),
        ({"question": ["x", 1]}, "part 1 is neither"),
        ({"question": {}}, "`question` must be a text"),
        ({"messages": []}, "at least one message"),
        ({"messages": "no json"}, "not JSON"),
        ({"messages": '["\\ud800"]'}, "not JSON"),
        ({"messages": "[" * 5000}, "not JSON"),
        ({"messages": 7}, "at least one message"),
        ({"messages": ["hello"]}, "Message 0 of `messages` must be an object"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "a `role` of assistant"),
        ({"messages": [TURNS[0], {"role": "user"}]}, "Message 1 of `messages` has no `content`"),
        ({"messages": user(3)}, "The content of message 0 of `messages` must be"),
        ({"messages": user([{"type": "video"}])}, "part 0 is neither a text nor an image"),
        ({"messages": user([{"type": "image", "image": {"data": "!"}}])}, "not valid base64"),
        ({"messages": user([{"type": "image", "image": {"data": "aGVsbG8="}}])}, "neither PNG"),
        ({"messages": user([{"type": "image", "image": {}}])}, "either a `url` or"),
        ({"messages": user([{"type": "image", "image": {"url": {}}}])}, "must have a `uri`"),
        ({"messages": user([{"type": "image", "image": {"url": {"uri": "http://x"}, "data": PNG}}])}, "not both"),
    ],
)
def test_rows_that_cannot_be_asked_say_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableRowError, match=reason):
        prompts.messages(row)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "a"}, "a"),
        ({"expected_answer": "a"}, "a"),
        ({"answer": 42}, "42"),
        ({"answer": 1.5}, "1.5"),
        ({"answer": True}, "true"),
        ({"answer": ""}, ""),
        ({"answer": None}, None),
        ({}, None),
    ],
)
def test_expected_answers(row: dict[str, Any], answer: str | None) -> None:
    assert prompts.expected_answer(row) == answer


def test_an_expected_answer_that_is_no_text_is_unreadable() -> None:
    with pytest.raises(UnreadableRowError, match="`answer` must be a text"):
        prompts.expected_answer({"answer": ["a"]})


@pytest.mark.parametrize(
    ("row", "query"),
    [
        ({"question": "q"}, "q"),
        ({"input_query": "bare", "messages": TURNS}, "bare"),
        ({"messages": user("q")}, "q"),
        ({"messages": [{"role": "system", "content": "s"}, *user("q")]}, "q"),
        ({"messages": TURNS}, "user: 2+2?\nassistant: 4\nuser: 3+3?"),
        (
            {"messages": user([{"type": "text", "text": "see "}, {"type": "image", "image": {"data": PNG}}])},
            "see [image]",
        ),
        ({"answer": "a"}, None),
    ],
)
def test_what_a_judge_sees_as_the_question(row: dict[str, Any], query: str | None) -> None:
    assert prompts.input_query(row) == query


@pytest.mark.parametrize(("weight", "value"), [(None, None), (2, 2.0), (0.5, 0.5), (0, 0.0)])
def test_weights(weight: Any, value: float | None) -> None:
    assert prompts.weight({"weight": weight}) == value


@pytest.mark.parametrize("weight", [-1, True, "2", 1e300])
def test_weights_that_are_none(weight: Any) -> None:
    with pytest.raises(UnreadableRowError, match="`weight` must be"):
        prompts.weight({"weight": weight})


@pytest.mark.parametrize(
    ("content", "turn"),
    [
        ("Be brief.", "Be brief."),
        ({"type": "text", "text": "Be brief."}, [{"type": "text", "text": "Be brief."}]),
        (
            [{"type": "text", "text": "Like this:"}, {"type": "image", "image": {"url": {"uri": "http://x"}}}],
            [{"type": "text", "text": "Like this:"}, {"type": "image_url", "image_url": {"url": "http://x"}}],
        ),
        (
            {"type": "image", "image": {"data": PNG}},
            [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
        ),
    ],
)
def test_system_messages(content: Any, turn: Any) -> None:
    message = SystemMessage.model_validate({"content": content})
    assert prompts.system_message(message, "/s", lambda _url: None) == {"role": "system", "content": turn}


def test_an_image_of_the_system_message_that_is_none_is_refused_with_its_place() -> None:
    message = SystemMessage.model_validate({"content": [{"type": "text", "text": "x"}, {"type": "image", "image": {}}]})
    with pytest.raises(InvalidRequestError) as caught:
        prompts.system_message(message, "/s", lambda _url: None)
    assert caught.value.errors[0].pointer == "/s/content/1/image"

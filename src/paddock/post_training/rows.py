"""From a dataset's row to conversations: messages, and where the part that is learnt begins.

Pure, and blind to models: how messages become tokens is the business of `tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paddock import wire
from paddock.errors import InvalidRequestError

Row = dict[str, Any]
Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")

CONVERSATION_FIELDS = ("messages", "dialog")
"""Fields that hold a whole conversation."""

PROMPT_FIELDS = ("chat_completion_input", "input_query", "completion_input", "question", "prompt", *CONVERSATION_FIELDS)
ANSWER_FIELDS = ("expected_answer", "answer", "chosen")
"""What `instruct` takes as a prompt and as its answer, each a text or messages: the first field that is there."""


class RowError(ValueError):
    """A row that cannot be trained on; the message names the field and the reason."""


@dataclass(frozen=True)
class Conversation:
    """Messages; the assistant's turns from index `num_prompt` on are the answers that are learnt."""

    messages: tuple[Message, ...]
    num_prompt: int


@dataclass(frozen=True)
class Pair:
    """The two answers to one prompt, each with the prompt before it."""

    chosen: Conversation
    rejected: Conversation


@contextmanager
def naming(dataset_id: str, index: int, pointer: str = "/training_config/data_config/dataset_id") -> Iterator[None]:
    """Turn a `RowError` inside into an `InvalidRequestError` that names the row; `pointer` is where the request names
    the dataset."""
    try:
        yield
    except RowError as error:
        raise InvalidRequestError(
            f"Row {index} of the dataset {dataset_id} cannot be trained on: {error}",
            pointer=pointer,
        ) from None


@contextmanager
def within(field: str) -> Iterator[None]:
    """Name the field of which a `RowError` inside speaks."""
    try:
        yield
    except RowError as error:
        raise RowError(f"of `{field}`, {error}") from None


def conversation(row: Row, data_format: str) -> Conversation:
    """The conversation that a row holds.

    `dialog`: every turn of the assistant is an answer. `instruct`: the last message is the one answer, all before it
    is its prompt. Raises `RowError`."""
    return _READERS[data_format](row)


def _dialog(row: Row) -> Conversation:
    field = _first_of(row, CONVERSATION_FIELDS)
    messages = _messages(row[field], field)
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise RowError(f"`{field}` holds no turn of the assistant, so there is nothing to learn")
    if len(answers) == len(messages):
        raise RowError(f"`{field}` holds an answer without a prompt before it")
    for index in answers:
        _check_says_something(messages[index], f"{field}[{index}]")
    return Conversation(messages, num_prompt=0)


def _instruct(row: Row) -> Conversation:
    for field in CONVERSATION_FIELDS:
        if row.get(field) is not None:
            messages = _messages(row[field], field)
            if messages[-1]["role"] == "assistant":
                return _with_last_answer(messages, field)
    prompt_field, answer_field = _first_of(row, PROMPT_FIELDS), _first_of(row, ANSWER_FIELDS)
    prompt = _prompt(row[prompt_field], prompt_field)
    return _with_last_answer(prompt + _answer(row[answer_field], answer_field), answer_field)


_READERS: dict[str, Callable[[Row], Conversation]] = {"instruct": _instruct, "dialog": _dialog}


def preference(row: Row, data_format: str) -> Pair:
    """The pair that a row's `prompt`, `chosen` and `rejected` hold, each a text or messages.

    Answers given as whole conversations repeat the prompt: it is taken once. Without `prompt` it is what both begin
    with. `instruct`: the last message is the answer; `dialog`: every turn of the assistant after the prompt is.
    Raises `RowError`."""
    for field in ("chosen", "rejected"):
        if row.get(field) is None:
            raise RowError(f"`{field}` is missing")
    chosen, rejected = _answer(row["chosen"], "chosen"), _answer(row["rejected"], "rejected")
    if row.get("prompt") is not None:
        prompt = _prompt(row["prompt"], "prompt")
        chosen, rejected = _without(prompt, chosen), _without(prompt, rejected)
    else:
        prompt = _shared_start(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not prompt:
        raise RowError("`prompt` is missing, and `chosen` and `rejected` do not begin with the same messages")
    if chosen == rejected:
        raise RowError("`chosen` and `rejected` are the same, so there is nothing to prefer")
    return Pair(
        _preference_side(prompt, chosen, "chosen", data_format),
        _preference_side(prompt, rejected, "rejected", data_format),
    )


def _preference_side(
    prompt: tuple[Message, ...], answer: tuple[Message, ...], field: str, data_format: str
) -> Conversation:
    if not answer or answer[0]["role"] != "assistant":
        raise RowError(f"`{field}` does not go on with a turn of the assistant after the prompt")
    if data_format == "instruct":
        return _with_last_answer(prompt + answer, field)
    for message in answer:
        if message["role"] == "assistant":
            _check_says_something(message, field)
    return Conversation(prompt + answer, num_prompt=len(prompt))


def _with_last_answer(messages: tuple[Message, ...], field: str) -> Conversation:
    if messages[-1]["role"] != "assistant":
        raise RowError(f"`{field}` does not end with a turn of the assistant, so there is no answer to learn")
    if len(messages) == 1:
        raise RowError(f"`{field}` holds an answer without a prompt before it")
    _check_says_something(messages[-1], field)
    return Conversation(messages, num_prompt=len(messages) - 1)


def _check_says_something(answer: Message, place: str) -> None:
    # A call of a tool has no content, nor has one that only reasons.
    said = (value for key, value in answer.items() if key not in ("role", "name"))
    if not any(value.strip() if isinstance(value, str) else value for value in said):
        raise RowError(f"`{place}` holds an answer that is empty, so there is nothing to learn")


def _without(prompt: tuple[Message, ...], answer: tuple[Message, ...]) -> tuple[Message, ...]:
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer


def _shared_start(first: tuple[Message, ...], second: tuple[Message, ...]) -> tuple[Message, ...]:
    """What both begin with, up to the first turn of the assistant in which they may differ."""
    length = 0
    for one, other in zip(first[:-1], second[:-1], strict=False):
        if one != other:
            break
        length += 1
    while length and first[length]["role"] != "assistant":
        length -= 1
    return first[:length]


def _first_of(row: Row, fields: tuple[str, ...]) -> str:
    for field in fields:
        if row.get(field) is not None:
            return field
    raise RowError("it has no " + " or ".join(f"`{field}`" for field in fields))


def _prompt(value: Any, field: str) -> tuple[Message, ...]:
    if isinstance(value, str) and not _is_json_messages(value):
        return ({"role": "user", "content": value},)
    return _messages(value, field)


def _answer(value: Any, field: str) -> tuple[Message, ...]:
    if isinstance(value, str) and not _is_json_messages(value):
        return ({"role": "assistant", "content": value},)
    return _messages(value, field)


def _is_json_messages(text: str) -> bool:
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        value = wire.from_json(text)
    except ValueError:
        return False
    messages = value if isinstance(value, list) else [value]
    return bool(messages) and all(isinstance(message, dict) and "role" in message for message in messages)


def _messages(value: Any, field: str) -> tuple[Message, ...]:
    """A list of messages, one message, or the JSON text of either."""
    if isinstance(value, str):
        try:
            value = wire.from_json(value)
        except ValueError:
            raise RowError(f"`{field}` is a text that holds no JSON list of messages") from None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise RowError(f"`{field}` is not a list of messages")
    return tuple(_message(message, f"{field}[{index}]") for index, message in enumerate(value))


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict):
        raise RowError(f"`{place}` is not an object with `role` and `content`")
    if message.get("role") not in ROLES:
        raise RowError(f"`{place}.role` must be one of {', '.join(ROLES)}")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise RowError(f"`{place}.tool_calls` is not a list")
    # Keys that are null are as good as absent, and many templates print them otherwise.
    read = {key: value for key, value in message.items() if value is not None}
    read["content"] = _text(message.get("content"), f"{place}.content", may_be_absent=bool(calls))
    if calls:
        read["tool_calls"] = [_tool_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls)]
    return read


def _text(content: Any, place: str, *, may_be_absent: bool) -> str:
    """A message's content as one text; OpenAI's list of parts is joined."""
    if isinstance(content, str):
        return content
    if content is None and may_be_absent:
        return ""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
            raise RowError(f"`{place}` holds an image, which a text model cannot be trained on")
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise RowError(f"`{place}` is neither a text nor a list of text parts")
        texts.append(text)
    return "".join(texts)


def _tool_call(call: Any, place: str) -> dict[str, Any]:
    """A tool call as templates want it: OpenAI writes `arguments` as JSON text, templates read an object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise RowError(f"`{place}` has no `function`")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = wire.from_json(arguments)
        except ValueError:
            raise RowError(f"`{place}.function.arguments` is a text that holds no JSON") from None
    return {**call, "function": {**function, "arguments": arguments}}

"""From a dataset's row to what a model is asked and what it should say. Pure functions; no row is ever changed.

Read are `messages`/`answer`, `question`/`answer`, and the older columns of Llama Stack: `chat_completion_input`,
`completion_input`, `dialog`, `input_query`, `expected_answer`, `generated_answer`. Conversations may be JSON or strings
of JSON. Every turn is kept. The candidate's system message goes in front.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paddock import wire
from paddock.errors import InvalidRequestError
from paddock.evaluation.schemas import ImageContentItem, SystemMessage, TextContentItem
from paddock.inference.engine import Message

Row = Mapping[str, Any]

MAX_WEIGHT = 1e9
MAX_CHOICES = 256

_CONVERSATIONS = ("messages", "chat_completion_input", "dialog")
_QUESTIONS = ("question", "input_query", "completion_input", "prompt")
_ANSWERS = ("answer", "expected_answer")
_ROLES = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool"}
_ROLES |= {"ipython": "tool"}  # the older name
_TURN_KEYS = ("name", "tool_calls", "tool_call_id")
_IMAGE_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


class UnreadableRowError(Exception):
    """A row that cannot be asked or scored; the message says why. `column` is set where one is simply not there."""

    def __init__(self, reason: str, *, column: str | None = None) -> None:
        super().__init__(reason)
        self.column = column


def messages(row: Row, system: Message | None = None) -> Sequence[Message]:
    """What to ask a model for this row, the candidate's `system` turn first. Raises `UnreadableRowError`."""
    turns = _asked(row)
    if turns is None:
        raise UnreadableRowError("The row asks nothing: it has neither `messages` nor `question`.", column="question")
    return turns if system is None else [system, *turns]


def text(row: Row) -> str:
    """What a model is to continue for this row: its question as it stands. Raises `UnreadableRowError`."""
    found = _first(row, (*_CONVERSATIONS, *_QUESTIONS))
    if found is None:
        raise UnreadableRowError("The row asks nothing: it has no `question`.", column="question")
    column, value = found
    if not isinstance(value, str) or column in _CONVERSATIONS:
        raise UnreadableRowError(f"`{column}` is not a text, and this benchmark has the model continue one.")
    return value


def choices(row: Row) -> list[str]:
    """The choices of a row whose likelihoods are compared. Raises `UnreadableRowError`."""
    found = row.get("choices")
    if found is None:
        raise UnreadableRowError("The row has no `choices`.", column="choices")
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(choice, str) and choice for choice in found):
        raise UnreadableRowError("`choices` must be a list of two texts or more, none of them empty.")
    if len(found) > MAX_CHOICES:
        raise UnreadableRowError(f"A row has at most {MAX_CHOICES} `choices`.")
    return found


def continuations(row: Row) -> list[str]:
    """The choices as they follow the question: behind the row's `target_delimiter`, a space where it has none. Raises
    `UnreadableRowError`."""
    delimiter = row.get("target_delimiter", " ")
    if not isinstance(delimiter, str):
        raise UnreadableRowError("`target_delimiter` must be a text: what stands between the question and a choice.")
    return [delimiter + choice for choice in choices(row)]


def input_query(row: Row) -> str | None:
    """What the row asks, as a judge sees it: the row's own text of it; else its one turn, or all of them with their
    roles. None if it asks nothing."""
    for column in ("input_query", "question"):
        if isinstance(row.get(column), str):
            return str(row[column])
    turns = _asked(row)
    if turns is None:
        return None
    asked = [turn for turn in turns if turn["role"] != "system"] or turns
    if len(asked) == 1:
        return _plain(asked[0])
    return "\n".join(f"{turn['role']}: {_plain(turn)}" for turn in asked)


def expected_answer(row: Row) -> str | None:
    """The expected answer, or None if the row has none. A number or a boolean is its JSON text."""
    found = _first(row, _ANSWERS)
    return None if found is None else _text(*found)


def generated_answer(row: Row) -> str:
    """The answer that the row itself carries. Raises `UnreadableRowError` if it has none."""
    found = _first(row, ("generated_answer",))
    if found is None:
        raise UnreadableRowError("The row has no `generated_answer`.", column="generated_answer")
    return _text(*found)


def weight(row: Row) -> float | None:
    """How much the row counts in `weighted_average`, from its column `weight`; None where it has none."""
    value = row.get("weight")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WEIGHT:
        raise UnreadableRowError(f"`weight` must be a number from 0 to {MAX_WEIGHT:g}.")
    return float(value)


def cluster(row: Row) -> str | None:
    """Which rows this one resembles, from its column `cluster`, else `group`: a text or a whole number. None without; a
    `group` of another type is something else."""
    value = row.get("cluster")
    if value is None:
        value = row.get("group")
        return str(value) if _names_cluster(value) else None
    if not _names_cluster(value):
        raise UnreadableRowError("`cluster` must be a text or a whole number: rows of one cluster resemble each other.")
    return str(value)


def _names_cluster(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def system_message(message: SystemMessage, pointer: str, check_image: Callable[[str], None]) -> Message:
    """The candidate's system message as a turn. Raises `InvalidRequestError` for an image that is none, or that
    `check_image`, given its URL, refuses in the same way."""
    content = message.content
    if isinstance(content, str):
        return {"role": "system", "content": content}
    items = content if isinstance(content, list) else [content]
    parts = []
    for index, item in enumerate(items):
        place = f"{pointer}/content/{index}" if isinstance(content, list) else f"{pointer}/content"
        parts.append(_system_part(item, place, check_image))
    return {"role": "system", "content": parts}


def _system_part(item: TextContentItem | ImageContentItem, pointer: str, check_image: Callable[[str], None]) -> Message:
    if isinstance(item, TextContentItem):
        return {"type": "text", "text": item.text}
    try:
        part = _image(item.image.model_dump())
        check_image(part["image_url"]["url"])
    except (UnreadableRowError, InvalidRequestError) as error:
        raise InvalidRequestError(str(error), pointer=f"{pointer}/image") from None
    return part


def _first(row: Row, columns: Sequence[str]) -> tuple[str, Any] | None:
    """The first of these columns that the row has; a column that is null is not there."""
    return next(((column, row[column]) for column in columns if row.get(column) is not None), None)


def _asked(row: Row) -> list[Message] | None:
    """The row's turns, or None if it asks nothing."""
    conversation = _first(row, _CONVERSATIONS)
    if conversation is not None:
        return _turns(*conversation)
    question = _first(row, _QUESTIONS)
    return None if question is None else [_question(*question)]


def _text(column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UnreadableRowError(f"`{column}` must be a text.")


def _parsed(value: Any) -> Any:
    """A column that is JSON or a string of JSON; a string of something else is itself."""
    if not isinstance(value, str):
        return value
    try:
        return wire.from_json(value)
    except (ValueError, RecursionError):
        return value


def _turns(column: str, value: Any) -> list[Message]:
    parsed = _parsed(value)
    if isinstance(parsed, str):
        raise UnreadableRowError(f"`{column}` is a text that is not JSON.")
    if isinstance(parsed, dict):
        parsed = parsed.get("messages", [parsed])
    if not isinstance(parsed, list) or not parsed:
        raise UnreadableRowError(f"`{column}` must be a list of at least one message.")
    return [_turn(column, index, turn) for index, turn in enumerate(parsed)]


def _turn(column: str, index: int, turn: Any) -> Message:
    place = f"Message {index} of `{column}`"
    role = _ROLES.get(str(turn.get("role"))) if isinstance(turn, dict) else None
    if role is None:
        raise UnreadableRowError(f"{place} must be an object with a `role` of {', '.join(sorted(_ROLES))}.")
    content = turn.get("content")
    if content is None and not turn.get("tool_calls"):
        raise UnreadableRowError(f"{place} has no `content`.")
    kept = {key: turn[key] for key in _TURN_KEYS if turn.get(key) is not None}
    return {"role": role, "content": None if content is None else _content(place, content), **kept}


def _question(column: str, value: Any) -> Message:
    if column == "completion_input":
        # JSON by its definition: a text, or an object with the text as its content.
        value = _parsed(value)
        if isinstance(value, dict):
            value = value.get("content")
    if isinstance(value, list):
        return {"role": "user", "content": _content(f"`{column}`", value)}
    return {"role": "user", "content": _text(column, value)}


def _content(place: str, content: Any) -> str | list[Message]:
    """A turn's content in OpenAI's form; parts may be in the contract's form or in OpenAI's."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise UnreadableRowError(f"The content of {place[0].lower() + place[1:]} must be a text or a list of parts.")
    return [_part(place, index, part) for index, part in enumerate(content)]


def _part(place: str, index: int, part: Any) -> Message:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image" and isinstance(part.get("image"), dict):
        return _image(part["image"])
    if (
        kind == "image_url"
        and isinstance(part.get("image_url"), dict)
        and isinstance(part["image_url"].get("url"), str)
    ):
        return {"type": "image_url", "image_url": part["image_url"]}
    raise UnreadableRowError(f"{place}: part {index} is neither a text nor an image.")


def _image(image: Mapping[str, Any]) -> Message:
    """An image of the contract as OpenAI's part: its URL, or its base64 data as a `data:` URL."""
    url, data = image.get("url"), image.get("data")
    if url is not None and data is not None:
        raise UnreadableRowError("An image has either a `url` or base64 `data`, not both.")
    if url is not None:
        uri = url.get("uri") if isinstance(url, dict) else url
        if not isinstance(uri, str) or not uri:
            raise UnreadableRowError("An image's `url` must have a `uri`.")
        return {"type": "image_url", "image_url": {"url": uri}}
    if not isinstance(data, str) or not data:
        raise UnreadableRowError("An image has either a `url` or base64 `data`.")
    try:
        head = base64.b64decode(data, validate=True)[:16]
    except (binascii.Error, ValueError):
        raise UnreadableRowError("An image's `data` is not valid base64.") from None
    media_type = next((kind for start, kind in _IMAGE_SIGNATURES.items() if head.startswith(start)), None)
    if media_type is None:
        raise UnreadableRowError("An image's `data` is neither PNG, JPEG, GIF nor WebP.")
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


def _plain(turn: Message) -> str:
    content = turn["content"]
    if content is None:
        return json.dumps(turn["tool_calls"])
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else "[image]" for part in content)

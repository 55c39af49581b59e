"""How models write that they want a function called: told by their chat template, which teaches them one of three forms.

The forms are those of Hermes and Qwen (`<tool_call>{…}</tool_call>`), of Llama 3 (the answer is one object with
`parameters`), and of Mistral up to its eleventh tokenizer (`[TOOL_CALLS][{…}]`). Others are not read here.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from paddock.inference.engine import ToolCall, Tools


class Parsed(NamedTuple):
    """What an answer says, and what it wants called."""

    content: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class ToolForm:
    """One form: what a call begins and ends with, and what its object calls the arguments."""

    opening: str
    closing: str
    arguments: str
    is_list: bool = False
    is_whole_answer: bool = False
    """Whether a call is all that such an answer holds; then it begins like an object, with nothing before it."""

    def content_end(self, text: str) -> int:
        """How much of an unfinished answer is certainly no call."""
        if self.is_whole_answer:
            return 0 if text.lstrip().startswith(("{", self.opening)) or not text.strip() else len(text)
        start = text.find(self.opening)
        return len(text) - len_of_beginning(text, self.opening) if start < 0 else start

    def parse(self, text: str) -> Parsed:
        """An answer's calls, and the text before them. All is text where a call is not as it should be."""
        start = self.content_end(text)
        calls = []
        for written in self._written_calls(text[start:]):
            call = self._call(written)
            if call is None:
                return Parsed(text, ())
            calls.append(call)
        return Parsed(text[:start], tuple(calls)) if calls else Parsed(text, ())

    def schema(self, tools: Tools) -> dict[str, Any]:
        """What stands between opening and closing if one of the required functions is to be called."""
        functions = {tool["function"]["name"]: tool["function"] for tool in tools.functions}
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, self.arguments: functions[name].get("parameters") or _ANY},
                "required": ["name", self.arguments],
                "additionalProperties": False,
            }
            for name in tools.required
        ]
        one: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return {"type": "array", "items": one, "minItems": 1, "maxItems": 1} if self.is_list else one

    def _written_calls(self, text: str) -> list[Any]:
        if self.is_whole_answer:
            parts = [text.strip().removeprefix(self.opening)]
        else:
            parts = text.split(self.opening)[1:]
            if self.closing:
                parts = [part.partition(self.closing)[0] for part in parts]
        try:
            values = [json.loads(part) for part in parts]
        except ValueError:
            return [None]
        return [call for value in values for call in (value if isinstance(value, list) else [value])]

    def _call(self, written: Any) -> ToolCall | None:
        if not isinstance(written, dict) or not isinstance(written.get("name"), str):
            return None
        arguments = written.get(self.arguments, {})
        # Mistral's template takes ids of nine letters and digits alone.
        call_id = uuid.uuid4().hex[:9] if self.is_list else f"call_{uuid.uuid4().hex[:24]}"
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return ToolCall(call_id, written["name"], text)


_ANY: dict[str, Any] = {"type": "object"}

_HERMES = ToolForm("<tool_call>", "</tool_call>", "arguments")
_LLAMA = ToolForm("<|python_tag|>", "", "parameters", is_whole_answer=True)
_MISTRAL = ToolForm("[TOOL_CALLS]", "", "arguments", is_list=True)

# What stands in templates that teach another form under the same opening.
_OTHER_FORMS = re.compile(r"<function=|<arg_key>|\[ARGS\]|\[CALL_ID\]")


def form_of(template: str) -> ToolForm | None:
    """The form that a chat template teaches; None if it takes no tools, or teaches one that is not known here."""
    if not re.search(r"\btools\b", template) or _OTHER_FORMS.search(template):
        return None
    if _HERMES.opening in template:
        return _HERMES
    if _MISTRAL.opening in template:
        return _MISTRAL
    return _LLAMA if '"parameters": dictionary' in template.replace("\\", "") else None


def turns_for_template(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns as templates take them: the arguments of calls as objects, where clients send JSON in a text."""
    return [
        message | {"tool_calls": [_call_for_template(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _call_for_template(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = function["arguments"]
    return call | {"function": function | {"arguments": arguments}}


def len_of_beginning(text: str, mark: str) -> int:
    """The length of the longest end of `text` with which `mark`, whole at most but for one character, begins."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)

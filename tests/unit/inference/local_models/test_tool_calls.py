"""Three forms of calls, told by templates, read from answers, and as schemas of answers that must be calls."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from paddock.inference.engine import Tools
from paddock.inference.local_models.tool_calls import ToolForm, form_of, turns_for_template

HERMES = "{% if tools %}<tools>{{ tools | tojson }}</tools> answer <tool_call>{...}</tool_call>{% endif %}"
LLAMA = (
    '{% if tools %}Respond in the format {\\"name\\": function name, \\"parameters\\": dictionary of argument name'
    "{% endif %}<|python_tag|>"
)
MISTRAL = "{% if tools %}[AVAILABLE_TOOLS]{{ tools }}{% endif %}{{ '[TOOL_CALLS]' }}"


def form(template: str) -> ToolForm:
    found = form_of(template)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages }}",
        "<tool_call> but nothing is said of what there is",
        "{{ tools }} in a form of its own",
        HERMES + "<function=name>",
        MISTRAL + "[ARGS]",
    ],
)
def test_other_templates_teach_no_form_that_is_read(template: str) -> None:
    assert form_of(template) is None


@pytest.mark.parametrize(
    ("template", "text", "content", "calls"),
    [
        (HERMES, 'Hm.<tool_call>\n{"name": "f", "arguments": {"x": "<b>"}}\n</tool_call>', "Hm.", [("f", {"x": "<b>"})]),
        (HERMES, '<tool_call>{"name": "f"}</tool_call>\n<tool_call>{"name": "g"}', "", [("f", {}), ("g", {})]),
        (LLAMA, '{"name": "f", "parameters": {"x": 1}}', "", [("f", {"x": 1})]),
        (LLAMA, '<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", {})]),
        (MISTRAL, 'So:[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g"}]', "So:", [("f", {}), ("g", {})]),
    ],
)  # fmt: skip
def test_calls_are_read(template: str, text: str, content: str, calls: list[tuple[str, Any]]) -> None:
    parsed = form(template).parse(text)
    assert parsed.content == content
    assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == calls
    assert len({call.call_id for call in parsed.calls}) == len(calls)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (HERMES, "<tool_call>{broken</tool_call>"),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>["f"]</tool_call>'),
        (HERMES, "no call"),
        (LLAMA, 'I say {"name": "f", "parameters": {}}'),
        (LLAMA, '{"just": "an object"}'),
        (MISTRAL, "[TOOL_CALLS] 7"),
    ],
)
def test_what_is_no_call_is_text(template: str, text: str) -> None:
    assert form(template).parse(text) == (text, ())


@pytest.mark.parametrize("template", [HERMES, LLAMA, MISTRAL])
def test_a_call_that_must_be_is_of_a_required_function(template: str) -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    functions = tuple(
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("f", "g", "h")
    )
    found = form(template)
    schema = found.schema(Tools(functions, ("f", "g")))

    def is_valid(name: str, arguments: Any) -> bool:
        call = {"name": name, found.arguments: arguments}
        return jsonschema.Draft202012Validator(schema).is_valid([call] if found.is_list else call)

    assert is_valid("f", {"x": 1})
    assert is_valid("g", {"x": 1})
    assert not is_valid("h", {"x": 1})
    assert not is_valid("f", {"x": "1"})


def test_templates_get_arguments_as_objects() -> None:
    def turn(arguments: Any) -> dict[str, Any]:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    user = {"role": "user", "content": "hi"}
    assert turns_for_template([user, turn('{"x": 1}'), turn("oops")]) == [user, turn({"x": 1}), turn("oops")]

"""Function calls in a model's answer, and whether they are those that are expected (Berkeley function-calling leaderboard,
Patil et al. 2025).

Calls are read from Python's syntax by its own parser, `[f(a=1), g(b="x")]`, or from JSON in the shapes that models and
servers use for tool calls; nothing is executed. Other languages are the business of `typed_calls`. Work for a process of its
own (`killable`): the text is a model's.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_FENCE = re.compile(r"```[a-z_]*\n?(.*?)```", re.DOTALL)
_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)

_MAX_FOLDED = 1e18
"""Arithmetic on larger numbers than these is not worked out."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


_TEXT_TYPES = (None, "string", "any", "String", "char")


class Call(NamedTuple):
    """A function's name and its arguments by name."""

    name: str
    arguments: dict[str, Any]


class NoCallError(Exception):
    """The text is no function call, or none that can be compared."""


def from_python(text: str) -> list[Call]:
    """The calls in Python's syntax that a text consists of. Raises `NoCallError` if it is something else."""
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NoCallError("The answer is neither a call in Python's syntax nor JSON.") from None
    elements = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
    if not all(isinstance(element, ast.Call) for element in elements):
        raise NoCallError("The answer is no function call, nor a list of them.")
    return [_python_call(element) for element in elements if isinstance(element, ast.Call)]


def read(answer: str, from_source: Callable[[str], list[Call]] = from_python) -> list[Call]:
    """The calls that an answer consists of, in JSON or in the language that `from_source` reads. Raises `NoCallError` if it
    is something else."""
    tagged = _TAGGED.findall(answer)
    if tagged:
        return [call for text in tagged for call in _from_json(_json(text))]
    fenced = _FENCE.search(answer)
    text = (fenced.group(1) if fenced else answer).strip().strip("`'").strip()
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return from_source(text)
    return _from_json(parsed)


def mismatch(
    calls: Sequence[Call],
    functions: Sequence[Mapping[str, Any]],
    expected: Sequence[Mapping[str, Any]],
    value_of: Callable[[Any, Mapping[str, Any]], Any] = lambda value, _schema: value,
) -> str:
    """Why these are not the `expected` calls, in any order, or an empty text if they are.

    `value_of` tells what an argument stands for where its schema says of which type it is.

    `functions` are the schemas of what could be called; each expected call is `{name: {parameter: [possible values]}}`,
    where an empty text among the values means that the parameter may be left out."""
    if len(calls) != len(expected):
        return f"{len(calls)} calls where {len(expected)} are expected."
    schemas = {function["name"]: function.get("parameters", {}) for function in functions}
    why = [[_why_not(call, *_only(wanted), schemas, value_of) for call in calls] for wanted in expected]
    for position in _unmatched([[reason == "" for reason in reasons] for reasons in why]):
        return next(reason for reason in why[position] if reason)
    return ""


def _only(wanted: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    ((name, possible),) = wanted.items()
    return name, possible


def _unmatched(fits: Sequence[Sequence[bool]]) -> Sequence[int]:
    """Expected calls without a call of their own, in the best assignment (Kuhn's augmenting paths)."""
    taken_by: dict[int, int] = {}

    def place(wanted: int, seen: set[int]) -> bool:
        for given, is_fit in enumerate(fits[wanted]):
            if is_fit and given not in seen:
                seen.add(given)
                if given not in taken_by or place(taken_by[given], seen):
                    taken_by[given] = wanted
                    return True
        return False

    return [wanted for wanted in range(len(fits)) if not place(wanted, set())]


def _why_not(
    call: Call,
    name: str,
    possible: Mapping[str, Any],
    schemas: Mapping[str, Any],
    value_of: Callable[[Any, Mapping[str, Any]], Any],
) -> str:
    # Dots cannot stand in the names that OpenAI's API takes, and so come as underscores.
    if call.name not in (name, name.replace(".", "_")):
        return f"The function {call.name!r} where {name!r} is expected."
    properties = schemas.get(name, {}).get("properties", {})
    for parameter in schemas.get(name, {}).get("required", ()):
        if parameter not in call.arguments:
            return f"{name!r} lacks its required parameter {parameter!r}."
    for parameter, given in call.arguments.items():
        if parameter not in possible or (properties and parameter not in properties):
            return f"{name!r} has an unexpected parameter {parameter!r}."
        schema = properties.get(parameter, {})
        value = value_of(given, schema)
        if not any(_is_argument(value, choice, schema) for choice in possible[parameter]):
            return f"The parameter {parameter!r} of {name!r} is {value!r}."
    for parameter, choices in possible.items():
        if parameter not in call.arguments and "" not in choices:
            return f"{name!r} lacks {parameter!r}."
    return ""


def _is_argument(value: Any, choice: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a call's argument is the one that may stand there. A text where another type is declared is the name of a
    variable, each letter of which counts."""
    if isinstance(value, str) and isinstance(choice, str) and schema.get("type") not in _TEXT_TYPES:
        return value == choice != ""
    return _is_value(value, choice, schema)


def _is_value(value: Any, choice: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is the one that may stand there. Texts are compared without case, spaces and light punctuation, an
    integer is a float where one is declared, and a float is no integer."""
    kind = schema.get("type")
    if isinstance(value, tuple) and kind == "tuple":
        value = list(value)
    if isinstance(choice, str) or isinstance(value, str):
        return isinstance(choice, str) and isinstance(value, str) and _plain(value) == _plain(choice)
    if isinstance(choice, bool) or isinstance(value, bool) or choice is None or value is None:
        return value is choice
    if isinstance(choice, int | float):
        is_number = isinstance(value, int) or (isinstance(value, float) and not _wants_integer(choice, kind))
        return is_number and bool(value == choice)
    if isinstance(choice, list):
        items = schema.get("items", {})
        return (
            isinstance(value, list)
            and len(value) == len(choice)
            and all(_is_value(one, other, items) for one, other in zip(value, choice, strict=True))
        )
    return isinstance(value, dict) and isinstance(choice, dict) and _is_object(value, choice, schema)


def _wants_integer(choice: float, kind: Any) -> bool:
    return isinstance(choice, int) and kind not in ("float", "number", "double")


def _is_object(value: Mapping[str, Any], choice: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """An object's keys have possible values each, as parameters have; deeper objects may be written out instead."""
    properties = schema.get("properties", {})

    def is_possible(key: str) -> bool:
        choices = choice[key] if isinstance(choice[key], list) else [choice[key]]
        if key not in value:
            return "" in choices
        inner = properties.get(key, {}) if isinstance(properties, dict) else {}
        return any(_is_value(value[key], one, inner) for one in (*choices, choice[key]))

    return value.keys() <= choice.keys() and all(is_possible(key) for key in choice)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


# ------------------------------------------------------------------------------------------------ JSON


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NoCallError("The tool call is no JSON.") from None


def _from_json(value: Any) -> list[Call]:
    """Calls in the shapes `{"name", "arguments"}`, the same below `function` (OpenAI), `{name: {argument: value}}`, a list
    of these, or such a list below `tool_calls`."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    return [_json_call(item) for item in (value if isinstance(value, list) else [value])]


def _json_call(item: Any) -> Call:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not item:
        raise NoCallError("The JSON is no tool call.")
    name = item.get("name") if isinstance(item.get("name"), str) else item.get("function")
    arguments = next((item[key] for key in ("arguments", "parameters", "args") if key in item), None)
    if not isinstance(name, str) or arguments is None:
        if len(item) != 1 or not isinstance(next(iter(item.values())), dict):
            raise NoCallError("The JSON is no tool call.")
        ((name, arguments),) = item.items()
    if isinstance(arguments, str):
        arguments = _json(arguments)
    if not isinstance(arguments, dict):
        raise NoCallError("A tool call's arguments are no JSON object.")
    return Call(name, arguments)


# ------------------------------------------------------------------------------------------------ Python


def _python_call(call: ast.Call) -> Call:
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise NoCallError("Arguments of a call must be named.")
    return Call(ast.unparse(call.func), {str(each.arg): _python_value(each.value) for each in call.keywords})


def _python_value(node: ast.expr) -> Any:
    """A literal's value; of what is no literal its text."""
    if isinstance(node, ast.Constant):
        return "..." if node.value is Ellipsis else node.value
    if isinstance(node, ast.List):
        return [_python_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_python_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        return {
            key.value: _python_value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.Call) and node.keywords:
        return {ast.unparse(node.func): _python_call(node).arguments}
    folded = _arithmetic(node)
    return ast.unparse(node) if folded is None else folded


def _arithmetic(node: ast.expr) -> float | None:
    """The number that an expression of small numbers comes to, or None if it is something else."""
    result: Any = None
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        result = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = _arithmetic(node.operand)
        result = None if operand is None else -operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _arithmetic(node.left), _arithmetic(node.right)
        if left is not None and right is not None and not (isinstance(node.op, ast.Div) and right == 0):
            result = _ARITHMETIC[type(node.op)](left, right)
    return result if result is not None and abs(result) <= _MAX_FOLDED else None

"""Function calls in Java's and JavaScript's syntax, as BFCL asks for them: `[Geo.find(place="Rome", limit=5L)]`.

An argument is kept as the text it is written as, of a string literal what is between the quotes. What value it stands for
depends on the type that the function's schema declares: `value_of`. Literals are read whole, with strings, regexes and
brackets in them; of what is no literal of its type, such as a variable's name, the text is the value. Nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from paddock.evaluation.scoring.function_calls import Call, NoCallError

_MAX_DEPTH = 100

_STRING = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`(?:\\.|[^`\\])*`'
# JavaScript's `/a"b/i`. Behind an operand a slash divides.
_REGEX = r"(?<!/)/(?![/*])(?:\\[^\n]|\[(?:\\[^\n]|[^]\\\n]){0,100}+]|[^/\\[\n]){1,500}+/[dgimsuvy]*+(?![\w$/])"
_DIVISION = r"(?<=[\w$.)\]}\"'`])(?<!\breturn)(?<!\btypeof)\s*+/"
_TOKEN = re.compile(rf"{_STRING}|{_DIVISION}|{_REGEX}|[\"'`()\[\]{{}},;]|(?<=\w)<[\w\s,.?\[\]<>]{{0,200}}>", re.DOTALL)
_IS_STRING = re.compile(_STRING, re.DOTALL)
# Two words in a row, as of a text without its quotes, are no expression, unless a keyword is among them.
_TWO_WORDS = re.compile(
    r"(?<![\w$])(?!(?:async|await|function|in|instanceof|new|typeof|void)\b)[\w$]+\s+(?!(?:in|instanceof)\b)[\w$]",
)

_CALL = re.compile(r"([A-Za-z_$][\w$.]*)\s*\((.*)\)", re.DOTALL)
_NAMED = re.compile(r"([A-Za-z_$][\w$]*)\s*=(?![=>])(.*)", re.DOTALL)

_JAVA_ARRAY = re.compile(r"new\s+[\w.]+(?:<[^{]*>)?\s*\[\s*\]\s*\{(.*)\}", re.DOTALL)
_JAVA_LIST_OF = re.compile(r"new\s+ArrayList\s*(?:<[^(]*>)?\s*\(\s*Arrays\.asList\s*\((.*)\)\s*\)", re.DOTALL)
_JAVA_COLLECTION = r"new\s+{}\s*(?:<[^(]*>)?\s*\(\s*\)\s*(?:\{{\s*(?:\{{(.*)\}}\s*)?\}})?"
_JAVA_LIST = re.compile(_JAVA_COLLECTION.format("ArrayList"), re.DOTALL)
_JAVA_MAP = re.compile(_JAVA_COLLECTION.format("HashMap"), re.DOTALL)
_JAVA_STATEMENT = re.compile(r"(?:this\s*\.\s*)?(add|put)\s*\((.*)\)", re.DOTALL)

_JS_ARRAY = re.compile(r"\[(.*)\]|new\s+Array\s*\((.*)\)", re.DOTALL)
_JS_OBJECT = re.compile(r"\{(.*)\}", re.DOTALL)
_JS_PROPERTY = re.compile(rf"({_STRING}|[\w$]+)\s*:(.*)", re.DOTALL)

_DECIMAL = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_INTEGER = (re.compile(r"-?\d{1,400}", re.ASCII), int)
_DOUBLE = (re.compile(_DECIMAL, re.ASCII), float)
_NUMBERS: dict[str, dict[str, tuple[re.Pattern[str], Callable[[str], float]]]] = {
    "java": {
        "byte": _INTEGER,
        "short": _INTEGER,
        "integer": _INTEGER,
        "long": (re.compile(r"-?\d{1,400}[lL]", re.ASCII), lambda text: int(text[:-1])),
        "float": (re.compile(rf"{_DECIMAL}[fF]", re.ASCII), lambda text: float(text[:-1])),
        "double": _DOUBLE,
    },
    "javascript": {
        "integer": _INTEGER,
        "Bigint": (re.compile(r"-?\d{1,400}n", re.ASCII), lambda text: int(text[:-1])),
        "float": (re.compile(r"-?\d+(?:\.\d+)?", re.ASCII), float),
    },
}
"""Language → declared type → how a literal of it is written, and its value."""

_NUMBER_KINDS = {"java": ("integer", "long", "float", "double"), "javascript": ("integer", "Bigint", "float")}
"""The types that a number is tried as where none is declared."""


def read(answer: str) -> list[Call]:
    """The calls that an answer consists of, their arguments as texts. Raises `NoCallError` if it is something else."""
    text = answer.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [_call(part) for part in _parts(text, ",")]


def _call(text: str) -> Call:
    found = _CALL.fullmatch(text.removesuffix(";").rstrip())
    if found is None:
        raise NoCallError("The answer is no function call, nor a list of them.")
    arguments: dict[str, str] = {}
    for part in _parts(found.group(2), ","):
        named = _NAMED.fullmatch(part)
        if named is None or named.group(1) in arguments:
            raise NoCallError("Arguments of a call must be named, and each once.")
        arguments[named.group(1)] = _unquoted(named.group(2).strip())
    return Call(found.group(1), arguments)


def value_of(text: str, schema: Mapping[str, Any], language: str) -> Any:
    """The value that a text stands for as an argument of the schema's type, in `java` or `javascript`; the text itself
    where it is no literal of that type."""
    try:
        return _typed(text.strip(), schema, language)
    except NoCallError:  # brackets or quotes that do not match
        return text


def _typed(text: str, schema: Mapping[str, Any], language: str) -> Any:
    kind, items = schema.get("type"), schema.get("items")
    number = _NUMBERS[language].get(str(kind))
    if number is not None:
        pattern, convert = number
        return convert(text) if pattern.fullmatch(text) else text
    if kind in ("boolean", "Boolean"):
        return {"true": True, "false": False}.get(text, text)
    if kind in ("Array", "ArrayList", "HashMap", "array", "dict"):
        collection = _java_collection if language == "java" else _javascript_collection
        return collection(text, str(kind), items if isinstance(items, dict) else {})
    return _unquoted(text) if kind in ("String", "char") else text


def _element(text: str, schema: Mapping[str, Any], language: str) -> Any:
    """A value within another: of the type that is declared, or else of the one that it is written as."""
    if schema.get("type") not in (None, "any"):
        return _typed(text, schema, language)
    if _IS_STRING.fullmatch(text):
        return _unquoted(text)
    if text in ("true", "false"):
        return text == "true"
    for kind in _NUMBER_KINDS[language]:
        value = _typed(text, {"type": kind}, language)
        if not isinstance(value, str):
            return value
    if language == "javascript" and text[:1] in ("[", "{"):
        return _javascript_collection(text, "array" if text.startswith("[") else "dict", {})
    return text


def _java_collection(text: str, kind: str, items: Mapping[str, Any]) -> Any:
    if kind == "Array":
        found = _JAVA_ARRAY.fullmatch(text)
        return text if found is None else [_element(part, items, "java") for part in _parts(found.group(1), ",")]
    if kind == "ArrayList" and (listed := _JAVA_LIST_OF.fullmatch(text)) is not None:
        return [_element(part, items, "java") for part in _parts(listed.group(1), ",")]
    built = (_JAVA_LIST if kind == "ArrayList" else _JAVA_MAP).fullmatch(text)
    if built is None:
        return text
    # `new HashMap<>() {{ put("a", 1); }}`: an initializer's statements.
    calls = [_JAVA_STATEMENT.fullmatch(part) for part in _parts(built.group(1) or "", ";")]
    filled = [(call.group(1), _parts(call.group(2), ",")) for call in calls if call is not None]
    if kind == "ArrayList" and all(name == "add" and len(values) == 1 for name, values in filled):
        return [_element(values[0], items, "java") for _, values in filled]
    if kind == "HashMap" and all(name == "put" and len(values) == 2 for name, values in filled):
        return {_unquoted(values[0]): _element(values[1], {}, "java") for _, values in filled}
    return text


def _javascript_collection(text: str, kind: str, items: Mapping[str, Any]) -> Any:
    if kind == "array":
        found = _JS_ARRAY.fullmatch(text)
        if found is None:
            return text
        return [_element(part, items, "javascript") for part in _parts(found.group(1) or found.group(2) or "", ",")]
    written = _JS_OBJECT.fullmatch(text)
    if written is None:
        return text
    properties = [_JS_PROPERTY.fullmatch(part) for part in _parts(written.group(1), ",")]
    if not all(properties):
        return text
    return {_unquoted(each.group(1)): _element(each.group(2).strip(), {}, "javascript") for each in properties if each}


def _unquoted(text: str) -> str:
    """What is between the quotes of a string literal, as it is written there; any other text as it is."""
    return text[1:-1] if _IS_STRING.fullmatch(text) else text


def _parts(text: str, separator: str) -> list[str]:
    """The pieces between separators that stand outside of strings and brackets, without the space around them; the last one
    is left out if it is empty. Raises `NoCallError` for brackets and quotes that do not match."""
    parts: list[str] = []
    closers: list[str] = []
    start = behind = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if not closers:
            _check_words(text[behind : token.start()])
        behind = token.end()
        if mark in ("(", "[", "{"):
            closers.append({"(": ")", "[": "]", "{": "}"}[mark])
            if len(closers) > _MAX_DEPTH:
                raise NoCallError(f"The answer is nested more than {_MAX_DEPTH} deep.")
        elif mark in (")", "]", "}"):
            if not closers or closers.pop() != mark:
                raise NoCallError("The answer's brackets do not match.")
        elif mark in ('"', "'", "`"):
            raise NoCallError("The answer has a quote that is not closed.")
        elif mark == separator and not closers:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    if closers:
        raise NoCallError("The answer's brackets do not match.")
    _check_words(text[behind:])
    return [*parts, last] if (last := text[start:].strip()) else parts


def _check_words(text: str) -> None:
    if _TWO_WORDS.search(text):
        raise NoCallError("The answer is no function call, nor a list of them: a text lacks its quotes.")

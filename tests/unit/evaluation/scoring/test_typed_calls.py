"""Calls in Java's and JavaScript's syntax. The reference's own verdicts are in `tests/golden`."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.evaluation.scoring import typed_calls
from paddock.evaluation.scoring.function_calls import Call, NoCallError


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        ("[f(a=1, b = 'x, y' )]", [("f", {"a": "1", "b": "x, y"})]),
        ("f()", [("f", {})]),
        ('Geo.f(a=new Map<A, List<B>>(), b="(")', [("Geo.f", {"a": "new Map<A, List<B>>()", "b": "("})]),
        ('f(a="say \\"hi\\"");', [("f", {"a": 'say \\"hi\\"'})]),
        ('f(a="x" + "y")', [("f", {"a": '"x" + "y"'})]),
        ("f(a=(x, y) => x == y)", [("f", {"a": "(x, y) => x == y"})]),
        ("f(a=1), g(b=async () => await z())", [("f", {"a": "1"}), ("g", {"b": "async () => await z()"})]),
        ("[]", []),
        ("f(a=/a\"b/, b=/two words'/gi.test(s))", [("f", {"a": '/a"b/', "b": "/two words'/gi.test(s)"})]),
        (r"""f(a=[/[/'"\]]/, /\/"/])""", [("f", {"a": r"""[/[/'"\]]/, /\/"/]"""})]),
        ("f(a=s => { return /[(]/.test(s) })", [("f", {"a": "s => { return /[(]/.test(s) }"})]),
        ('f(a=1 / 2, b=x/2 + "/" , c=(1)/2)', [("f", {"a": "1 / 2", "b": 'x/2 + "/"', "c": "(1)/2"})]),
        (
            "f(a=/home, b=/tmp, c=./x/, d=http://a/b/)",
            [("f", {"a": "/home", "b": "/tmp", "c": "./x/", "d": "http://a/b/"})],
        ),
    ],
)
def test_calls_are_read_with_their_arguments_as_texts(answer: str, calls: list[tuple[str, dict[str, str]]]) -> None:
    assert typed_calls.read(answer) == [Call(*call) for call in calls]


@pytest.mark.parametrize(
    "answer",
    [
        "I would call f.",
        "f",
        "f(1)",
        "f(a)",
        "f(a=1, a=2)",
        "f(a==1)",
        "f(a=>1)",
        "f(a=1",
        "f(a=1))",
        "f(a=[1)]",
        'f(a="x)',
        "f(a=two words)",
        "f(a=1) g(b=2)",
        "f(a=1).g(b=2)",
        "f(a=" + "[" * 60_000,
        "(" * 60_000,
        "a " * 30_000,
        "f(x=a" + "<a" * 30_000 + ")g",
        "f(a=1)" + " " * 60_000 + "x",
        'f(a=/"b)',
        'f(a=1 / "b/)',
        "f(a=" + ",/[" * 30_000,
        "f(a=" + ",/[/" * 30_000,
        "f(a=1" + " " * 60_000 + "/",
    ],
)
def test_what_is_no_call(answer: str) -> None:
    with pytest.raises(NoCallError):
        typed_calls.read(answer)


def schema(kind: str, items: str | None = None) -> dict[str, Any]:
    return {"type": kind} if items is None else {"type": kind, "items": {"type": items}}


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("12", schema("integer"), 12),
        ("12.0", schema("integer"), "12.0"),
        ("1_000", schema("integer"), "1_000"),
        ("٣", schema("integer"), "٣"),
        ("9" * 5000, schema("integer"), "9" * 5000),
        ("12", schema("long"), "12"),
        ("-12l", schema("long"), -12),
        ("1.5", schema("float"), "1.5"),
        ("1.5f", schema("float"), 1.5),
        ("15e-1", schema("double"), 1.5),
        ("true", schema("boolean"), True),
        ("True", schema("boolean"), "True"),
        ("x", schema("char"), "x"),
        ("12", schema("String"), "12"),
        ("12", schema("any"), "12"),
        ("new int[] {1, 2}", schema("Array", "integer"), [1, 2]),
        ("new long[]{1L, 2}", schema("Array", "long"), [1, "2"]),
        ('new String[]{"a, b", "{"}', schema("Array", "String"), ["a, b", "{"]),
        ("new int[][]{{1}, {2}}", schema("Array"), "new int[][]{{1}, {2}}"),
        ("{1, 2}", schema("Array"), "{1, 2}"),
        ('new ArrayList<>(Arrays.asList("a", 1, 2L, 1.5, true, x))', schema("ArrayList"), ["a", 1, 2, 1.5, True, "x"]),
        ('new ArrayList<String>() {{ add("a)"); this.add("b"); }}', schema("ArrayList", "String"), ["a)", "b"]),
        ("new ArrayList<>()", schema("ArrayList"), []),
        ("Arrays.asList(1)", schema("ArrayList"), "Arrays.asList(1)"),
        ('new HashMap<String, Integer>() {{ put("a", 1); put("b", "c"); }}', schema("HashMap"), {"a": 1, "b": "c"}),
        ("new HashMap<>() {{ }}", schema("HashMap"), {}),
        ('new HashMap<>() {{ put("a"); }}', schema("HashMap"), 'new HashMap<>() {{ put("a"); }}'),
        ('new HashMap<>() {{ put("a", 1; }}', schema("HashMap"), 'new HashMap<>() {{ put("a", 1; }}'),
        ("settings", schema("HashMap"), "settings"),
    ],
)
def test_javas_literals_by_declared_type(text: str, declared: dict[str, Any], value: Any) -> None:
    found = typed_calls.value_of(text, declared, "java")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("12", schema("integer"), 12),
        ("12", schema("float"), 12.0),
        ("1e3", schema("float"), "1e3"),
        ("12n", schema("Bigint"), 12),
        ("12", schema("Bigint"), "12"),
        ("false", schema("Boolean"), False),
        ("x", schema("String"), "x"),
        ("null", schema("any"), "null"),
        ("[1, 'a, b', true, null, x]", schema("array"), [1, "a, b", True, "null", "x"]),
        ("['1', 2]", schema("array", "String"), ["1", "2"]),
        ("new Array(1, 2)", schema("array", "integer"), [1, 2]),
        ("[[1, 2], [3]]", schema("array"), [[1, 2], [3]]),
        ("[1, 2,]", schema("array"), [1, 2]),
        ("[1, 2", schema("array"), "[1, 2"),
        ("[a b]", schema("array"), "[a b]"),
        ("{a: 1, 'b': {c: ['d']}, \"e\": f}", schema("dict"), {"a": 1, "b": {"c": ["d"]}, "e": "f"}),
        ("{a: '5'}", schema("dict"), {"a": "5"}),
        ("{...rest}", schema("dict"), "{...rest}"),
        ("{}", schema("dict"), {}),
        ("options", schema("dict"), "options"),
        ("[" * 500 + "]" * 500, schema("array"), "[" * 500 + "]" * 500),
    ],
)
def test_javascripts_literals_by_declared_type(text: str, declared: dict[str, Any], value: Any) -> None:
    found = typed_calls.value_of(text, declared, "javascript")
    assert (found, type(found)) == (value, type(value))

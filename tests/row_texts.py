"""JSON texts of rows, as no serializer would write them: any white space, digits and escapes, keys that come twice."""

from __future__ import annotations

import json

from hypothesis import strategies as st

WHITE = st.text(" \t\r\n", max_size=2)
DIGITS = st.text("0123456789", min_size=1, max_size=30)
INTEGERS = st.one_of(st.integers().map(str), st.just("-0"), st.just(str(2**70)), st.just("9" * 5000))
NUMBERS = st.one_of(
    INTEGERS,
    st.builds(lambda i, f: f"{i}.{f}", INTEGERS, DIGITS),
    st.builds(lambda i, f, e: f"{i}.{f}{e}", INTEGERS, DIGITS, st.sampled_from(["e5", "E-7", "e+400"])),
)
STRINGS = st.one_of(
    st.text().map(json.dumps),
    st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.just('"\\ud83d\\ude00 \\/ \\u0000"'),
)


def joined(opening: str, items: list[str], closing: str, white: str) -> str:
    return opening + white + f"{white},{white}".join(items) + white + closing


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds(lambda key, white, value: f"{key}{white}:{white}{value}", STRINGS, WHITE, values)
    # Keys may come twice.
    return st.builds(joined, st.just("{"), st.lists(member, max_size=4), st.just("}"), WHITE)


VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])),
    lambda values: st.one_of(
        _objects(values), st.builds(joined, st.just("["), st.lists(values, max_size=4), st.just("]"), WHITE)
    ),
    max_leaves=10,
)
ROWS = _objects(VALUES)

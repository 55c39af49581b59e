"""Clients' regexes: what they mean, whichever engine runs them, and that none can hold the server up."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import InvalidRequestError
from paddock.evaluation.scoring import killable, regexes
from paddock.evaluation.scoring.function import CannotScoreError


def found(pattern: str, text: str) -> str | None:
    return asyncio.run(regexes.find(regexes.compile_all([pattern], "/p"), text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(\d+)", "a 12 b"),
        (r"(\d+)", "٣٤"),  # digits of another script: RE2 alone would miss them
        (r"(\w+)", "é-x"),
        (r"\bB\b", "éB B"),
        (r"a\sb", "a\x0bb"),
        (r"a\sb", "a\xa0b"),
        (r"end$", "the end\n"),  # Python's $ knows a last newline
        (r"end$", "the end"),
        (r"(?m)^b$", "a\nb\n"),
        (r"(?i)straße", "STRASSE straße"),
        (r"(?i)k", "\u212a"),  # the Kelvin sign
        (r"a{,2}b", "aab"),
        (r"x{2}", "xxx"),
        (r"a{2", "a{2"),  # braces that count nothing are text
        (r"(?=b)(.)", "abc"),
        (r"(.)\1", "abccd"),
        (r"(?P<n>.)(?P=n)", "abccd"),
        (r"(?<!a)b", "ab b"),
        (r"b\Z", "ab"),
        (r"a++b", "aab"),
        ("\\u00e9", "é"),
        (r"(a|ab)(c|bcd)", "abcd"),
        (r"(?s)a.b", "a\nb"),
        (r"none", "text"),
    ],
)
def test_a_regex_means_what_it_means_to_python(pattern: str, text: str) -> None:
    expected = re.search(pattern, text)
    whole = None if expected is None else next((g for g in expected.groups() if g is not None), expected.group())
    assert found(pattern, text) == whole


@given(st.text(alphabet="ab1 \n\x0bé٣K\u212a", max_size=12))
def test_classes_mean_the_same_on_any_text(text: str) -> None:
    for pattern in (r"\w+", r"\d+", r"\b\w", r"[^\W\d]+", r"a$", r"(?i)k", r"b+ "):
        expected = re.search(pattern, text)
        assert found(pattern, text) == (None if expected is None else expected.group())


@pytest.mark.parametrize("pattern", ["(", "*a", "[b", "(?P<a", r"\1", "(?z)a"])
def test_what_is_no_regex_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        regexes.compile_all([pattern], "/p")
    assert caught.value.errors[0].pointer == "/p/0"


@pytest.mark.parametrize("look_ahead", ["", "(?=x)"])
def test_repetitions_that_would_fill_the_memory_are_refused(look_ahead: str) -> None:
    with pytest.raises(InvalidRequestError, match="larger than is run"):
        regexes.compile_all([look_ahead + "(((a{1000}){1000}){1000}){1000}"], "/p")


def test_lengths_and_numbers_are_bounded() -> None:
    with pytest.raises(InvalidRequestError, match="4096 characters"):
        regexes.compile_all(["a" * 5000], "/p")
    with pytest.raises(InvalidRequestError, match="At most 100"):
        regexes.compile_all(["a"] * 101, "/p")


def test_backtracking_that_explodes_runs_in_linear_time_where_it_can() -> None:
    started_at = time.perf_counter()
    assert found(r"(a|aa)+c", "a" * 60_000) is None
    assert time.perf_counter() - started_at < 5


def test_and_to_a_deadline_where_it_cannot() -> None:
    with pytest.raises(CannotScoreError, match="took longer than 1 s"):
        found(r"(a|aa)+(?=c)", "a" * 2000)
    assert found(r"(a)(?=c)", "ac") == "a"  # the process that searched is there for the next row


def test_a_search_that_misses_its_deadline_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killable, "WALL_SECONDS", 0.3)  # before the deadline that the process keeps itself
    with pytest.raises(CannotScoreError, match="took longer than 0.3 s"):
        found(r"(a|aa)+(?=c)", "a" * 2000)
    monkeypatch.undo()
    assert found(r"(a)(?=c)", "ac") == "a"


def test_a_text_is_bounded() -> None:
    assert found("a", "b" * 65_535 + "a") == "a"
    with pytest.raises(CannotScoreError, match="longer than the 64 KB"):
        found("a", "é" * 32_769)


def test_the_first_pattern_that_matches_counts_whichever_engine_runs_it() -> None:
    both = [r"(\d+)(?=%)", r"(\w+)", r"(x)(?=y)"]
    patterns = regexes.compile_all(both, "/p")
    assert asyncio.run(regexes.find(patterns, "ab 12%")) == "12"
    assert asyncio.run(regexes.find(patterns, "ab xy")) == "ab"
    assert asyncio.run(regexes.find(patterns[::-1], "ab xy")) == "x"

"""Regexes that clients send, run so that none can hold the server up.

They mean what they mean to the `regex` module, which reads Python's syntax. RE2 runs them, in linear time, where it
means the same; its classes are ASCII and its `$` knows no last newline, so there it gets only texts for which that makes
no difference. The rest (look-around, back-references, other texts) is run by `regex` itself, in a process that stops at a
deadline and is killed if it does not.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import re2
import regex

from paddock.errors import InvalidRequestError
from paddock.evaluation.scoring import killable
from paddock.evaluation.scoring.function import CannotScoreError

MAX_TEXT_BYTES = 64 * 1024
"""The longest text that is searched."""

MAX_PATTERN_CHARACTERS = 4096
MAX_PATTERNS = 100

TIMEOUT_SECONDS = 1.0
"""Of processor time, for all the patterns of one row together."""

# RE2 searches here; the default pool is left to the database.
_POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="regexes")

# What RE2 reads as something else whatever the text: POSIX classes, Unicode properties, braces that count nothing,
# flags that are set on the way.
_OTHER_MEANING = re.compile(r"\[:|\\[pP]|\{(?!\d+(?:,\d*)?\})|(?<=.)\(\?[a-zA-Z-]+\)")

# What it reads the same only in plain text: classes and case beyond ASCII, the end before a last newline.
_PLAIN_TEXT_ONLY = re.compile(r"\\[wWdDsSbB]|\$|\(\?[a-zA-Z-]*i")

# Not plain: beyond ASCII, or the controls on whose being white space the two disagree.
_NOT_PLAIN = re.compile(r"[^\x00-\x7f]|[\x0b\x1c-\x1f]")

# Written without what RE2 lacks, a pattern is about as large as it is with it.
_LACKING_IN_RE2 = re.compile(r"\(\?(?:=|!|<=|<!|>)|\\[1-9]|\(\?P=\w+\)|\\Z|\\u[0-9a-fA-F]{4}|(?<=[*+?}])\+")


Match = tuple[str | None, ...]
"""A match as (whole, group 1, …)."""


@dataclass(frozen=True)
class Pattern:
    """A compiled regex."""

    source: str
    _linear: Any | None
    _plain_text_only: bool

    def is_linear_on(self, text: str) -> bool:
        """Whether RE2 finds in this text what `regex` would."""
        return self._linear is not None and not (self._plain_text_only and _is_special(text))

    def search(self, text: str) -> Match | None:
        """The first match, by RE2, in a text that `is_linear_on`."""
        assert self._linear is not None
        match = self._linear.search(text)
        return None if match is None else (match.group(), *match.groups())


class Backtracked(NamedTuple):
    """What `regex` found: the first match, or the pattern at which time was up."""

    match: Match | None
    too_slow: str | None = None


def compile_all(sources: Sequence[str], pointer: str) -> tuple[Pattern, ...]:
    """Patterns in the order given. Raises `InvalidRequestError` for one that is no regex, or one too large."""
    if len(sources) > MAX_PATTERNS:
        raise InvalidRequestError(f"At most {MAX_PATTERNS} regexes are taken.", pointer=pointer)
    return tuple(_compile(source, f"{pointer}/{index}") for index, source in enumerate(sources))


async def find(patterns: Sequence[Pattern], text: str) -> str | None:
    """What the first pattern that matches captured: its first group that took part, or all of its match where it has no
    groups. Searched for beside the event loop. Raises `CannotScoreError` for a text too long, or at the deadline."""
    if len(text.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise CannotScoreError(f"The text is longer than the {MAX_TEXT_BYTES // 1024} KB that regexes are run on.")
    linear = list(takewhile(lambda pattern: pattern.is_linear_on(text), patterns))
    match = await asyncio.get_running_loop().run_in_executor(_POOL, _first_match, linear, text)
    others = [pattern.source for pattern in patterns[len(linear) :]]
    if match is None and others:
        found = await killable.call(backtrack, text, *others)
        if found.too_slow is not None:
            raise CannotScoreError(f"The regex {found.too_slow!r} took longer than {TIMEOUT_SECONDS:g} s.")
        match = found.match
    return None if match is None else next((group for group in match[1:] if group is not None), match[0])


def backtrack(text: str, *sources: str) -> Backtracked:
    """The first match of the first of these regexes that has one. For a process of its own."""
    deadline = time.process_time() + TIMEOUT_SECONDS
    for source in sources:
        try:
            match = regex.compile(source).search(text, timeout=max(deadline - time.process_time(), 0.001))
        except TimeoutError:
            return Backtracked(None, too_slow=source)
        if match is not None:
            return Backtracked((match.group(), *match.groups()))
    return Backtracked(None)


def _first_match(patterns: Sequence[Pattern], text: str) -> Match | None:
    return next((match for pattern in patterns if (match := pattern.search(text)) is not None), None)


def _compile(source: str, pointer: str) -> Pattern:
    if len(source) > MAX_PATTERN_CHARACTERS:
        raise InvalidRequestError(f"A regex has at most {MAX_PATTERN_CHARACTERS} characters.", pointer=pointer)
    linear = _compile_re2(source)
    # RE2 bounds repetitions; `regex` would spell out `((a{1000}){1000}){1000}` until the memory is gone.
    if linear is None and _compile_re2(_LACKING_IN_RE2.sub(_stand_in, source)) is None:
        raise InvalidRequestError(f"The regex {source!r} is not valid, or larger than is run here.", pointer=pointer)
    try:
        regex.compile(source)
    except (regex.error, OverflowError, RecursionError) as error:
        raise InvalidRequestError(f"The regex {source!r} is not valid: {error}.", pointer=pointer) from None
    return Pattern(
        source=source,
        _linear=None if _OTHER_MEANING.search(source) else linear,
        _plain_text_only=_PLAIN_TEXT_ONLY.search(source) is not None or not source.isascii(),
    )


def _stand_in(match: re.Match[str]) -> str:
    if match.group().startswith("(?") and not match.group().startswith("(?P="):
        return "(?:"
    return "" if match.group() in ("+", r"\Z") else "x"


def _compile_re2(source: str) -> Any | None:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(source, options)
    except (re2.error, UnicodeEncodeError):
        return None


def _is_special(text: str) -> bool:
    return _NOT_PLAIN.search(text) is not None or text.endswith("\n")

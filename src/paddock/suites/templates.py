"""A stranger's Jinja templates, rendered over rows in a sandbox: in a process that is killed when time is up, that has so
much memory and no more, and whose texts have an end."""

from __future__ import annotations

import multiprocessing
import re
import resource
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from paddock.suites.suite import SuiteError

TIMEOUT_SECONDS = 60.0
"""For `CHUNK_ROWS` rows, once the process has taken them up."""

CHUNK_ROWS = 200
MAX_CHARACTERS = 1_000_000
"""The longest text that a template may make."""

_MAX_MEMORY_BYTES = 2**32


class Renderer:
    """Templates made ready; use it with `with`. Names that a row does not have are an error, as in lm-evaluation-harness."""

    def __init__(self) -> None:
        from pebble import ProcessPool

        spawn = multiprocessing.get_context("spawn")
        self._pool: Any = ProcessPool(max_workers=1, initializer=_limit_memory, context=spawn)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._pool.join()

    def render(self, template: str, rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
        """The text for each row. Raises `SuiteError` naming the template's `key`."""
        texts: list[str] = []
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = [dict(row) for row in rows[start : start + CHUNK_ROWS]]
            try:
                texts += self._pool.schedule(_render, args=(template, chunk), timeout=TIMEOUT_SECONDS).result()
            except TimeoutError:
                raise SuiteError(f"The template `{key}` took longer than {TIMEOUT_SECONDS:g} s.") from None
            except Exception as error:  # whatever a template can do wrong, and the death of its process
                raise SuiteError(f"The template `{key}` cannot be rendered: {_reason(error)}") from None
        return texts


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Repeating a text is done within bounds; so is raising to a power."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """See `SandboxedEnvironment`."""
        if operator == "**" and not (abs(left) <= 10_000 and abs(right) <= 64):
            raise jinja2.TemplateRuntimeError("a power this large is not computed here")
        sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
        if hasattr(sized, "__len__") and len(sized) * times > MAX_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it repeats something to more than {MAX_CHARACTERS:,} characters")
        return super().call_binop(context, operator, left, right)


def _render(template: str, rows: list[dict[str, Any]]) -> list[str]:
    """For the process of its own."""
    environment = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = _regex_replace
    compiled = environment.from_string(template)
    return [_bounded(compiled, row) for row in rows]


def _bounded(compiled: jinja2.Template, row: Mapping[str, Any]) -> str:
    pieces, length = [], 0
    for piece in compiled.generate(**row):
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it makes more than {MAX_CHARACTERS:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """The one filter that lm-evaluation-harness adds."""
    return re.sub(pattern, replacement, text, count=count)

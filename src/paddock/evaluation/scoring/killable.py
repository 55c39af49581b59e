"""Work on one row that may take long, or never end: it is done in spawned processes, which are killed when it does.

A function that is handed over here stands at the top of its module, and takes and gives what can be pickled. Libraries that
such functions use are loaded there, and not in the server: seconds that are not counted against the first row. The
processes start when they are first needed.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from paddock.errors import InvalidRequestError
from paddock.evaluation.scoring.function import CannotScoreError

log = logging.getLogger("paddock.evaluation")

MAX_TEXT_CHARACTERS = 64 * 1024
"""The longest text that is taken in."""

TIMEOUT_SECONDS = 10.0
"""For one row, once a process has taken it up."""

_NUM_PROCESSES = 2

_EXTRA = "scoring"

_pool: Any = None
_libraries: set[str] = set()
"""What is required of the processes so far: one that starts loads it before it takes up a row."""
_lock = threading.Lock()

T = TypeVar("T")


def require(pointer: str, *modules: str, extra: str = _EXTRA) -> None:
    """Raise `InvalidRequestError` unless these are installed; nothing is imported here."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidRequestError(
            f"This scoring function needs {', '.join(missing)}, which the server lacks: pip install 'paddock[{extra}]'",
            pointer=pointer,
        )
    if extra == _EXTRA:
        _load_from_now_on(modules)


async def call(function: Callable[..., T], *texts: str) -> T:
    """What `function(*texts)` returns. Raises `CannotScoreError` for a text too long, after `TIMEOUT_SECONDS`, and for
    whatever else keeps it from an end."""
    if any(len(text) > MAX_TEXT_CHARACTERS for text in texts):
        raise CannotScoreError(f"A text is longer than the {MAX_TEXT_CHARACTERS // 1024} K characters that are scored.")
    try:
        result: T = await asyncio.wrap_future(_scheduled(function, texts))
    except TimeoutError:
        raise CannotScoreError(f"Scoring took longer than {TIMEOUT_SECONDS:g} s.") from None
    except Exception as error:  # whatever a library raises over a row is that row's failure; so is its process's death
        log.warning("A row cannot be scored by %s: %r", function.__qualname__, error)
        raise CannotScoreError(f"The library that scores failed over this row ({type(error).__name__}).") from None
    return result


def _load_from_now_on(modules: Sequence[str]) -> None:
    global _pool  # noqa: PLW0603 -- see below
    with _lock:
        if not _libraries.issuperset(modules) and _pool is not None:
            _pool.close()  # it ends what it has begun
            _pool = None
        _libraries.update(modules)


def _load(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


def _scheduled(function: Callable[..., T], texts: Sequence[str]) -> Future[T]:
    global _pool  # noqa: PLW0603 -- one set of processes serves all evaluations of this process
    with _lock:
        if _pool is None:
            from pebble import ProcessPool

            _pool = ProcessPool(
                max_workers=_NUM_PROCESSES,
                context=multiprocessing.get_context("spawn"),
                initializer=_load,
                initargs=[sorted(_libraries)],
            )
        future: Future[T] = _pool.schedule(function, args=texts, timeout=TIMEOUT_SECONDS)
        return future

"""Work on one row that may take long, or never end: it is done in spawned processes, which are killed when it does.

A function that is handed over here stands at the top of its module, and takes and gives what can be pickled. Libraries that
such functions use are loaded there, and not in the server. The processes start when they are first needed. What is bounded
is processor time, which a row takes the same of on a busy machine: the kernel ends a process that exceeds it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import multiprocessing
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from paddock.errors import InvalidRequestError
from paddock.evaluation.scoring.function import CannotScoreError

log = logging.getLogger("paddock.evaluation")

MAX_TEXT_CHARACTERS = 64 * 1024
"""The longest text that is taken in."""

CPU_SECONDS = 10
"""Processor time for one row, with the loading of the libraries that it is the first to need."""

WALL_SECONDS = 60.0
"""Until a row that takes no processor time either is given up, once a process has taken it up."""

_NUM_PROCESSES = 2

_EXTRA = "scoring"

_pool: Any = None
_lock = threading.Lock()

T = TypeVar("T")


def require(pointer: str, *modules: str, extra: str = _EXTRA) -> None:
    """Raise `InvalidRequestError` unless these are installed; nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidRequestError(
            f"This scoring function needs {', '.join(missing)}, which the server lacks: pip install 'paddock[{extra}]'",
            pointer=pointer,
        )


async def call(function: Callable[..., T], *texts: str) -> T:
    """What `function(*texts)` returns. Raises `CannotScoreError` for a text too long, after `CPU_SECONDS` or
    `WALL_SECONDS`, and for whatever else keeps it from an end."""
    if any(len(text) > MAX_TEXT_CHARACTERS for text in texts):
        raise CannotScoreError(f"A text is longer than the {MAX_TEXT_CHARACTERS // 1024} K characters that are scored.")
    try:
        arguments = [CPU_SECONDS, function, *texts]
        result: T = await asyncio.wrap_future(_processes().schedule(_bounded, args=arguments, timeout=WALL_SECONDS))
    except TimeoutError:
        raise CannotScoreError(f"Scoring took longer than {WALL_SECONDS:g} s.") from None
    except Exception as error:  # whatever a library raises over a row is that row's failure; so is its process's death
        if getattr(error, "exitcode", None) == -signal.SIGXCPU:
            raise CannotScoreError(f"Scoring took longer than {CPU_SECONDS} s of processor time.") from None
        log.warning("A row cannot be scored by %s: %r", function.__qualname__, error)
        raise CannotScoreError(f"The library that scores failed over this row ({type(error).__name__}).") from None
    return result


def _bounded(cpu_seconds: int, function: Callable[..., T], *texts: str) -> T:
    """What the function returns, in a process that SIGXCPU ends after so many seconds of its time."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + cpu_seconds, most))
    try:
        return function(*texts)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def _processes() -> Any:
    global _pool  # noqa: PLW0603 -- one set of processes serves all evaluations of this process
    with _lock:
        if _pool is None:
            from pebble import ProcessPool

            _pool = ProcessPool(max_workers=_NUM_PROCESSES, context=multiprocessing.get_context("spawn"))
        return _pool

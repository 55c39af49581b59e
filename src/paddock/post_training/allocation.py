"""What becomes of memory that this process has freed: kept for its next step, or given back to the system.

Both are settings of the GNU C library; with another one nothing happens.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

# From malloc.h, where their defaults are as well.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULT_TRIM_BYTES, _DEFAULT_MMAP_MAX = 128 * 1024, 65536

_OWN_BLOCK_BYTES = 256 * 1024


def keep_freed() -> None:
    """A training step takes and frees the same large blocks again and again. Fresh ones cost a page fault every four
    kilobytes, on a CPU a tenth to a third of the time."""
    _set(_MMAP_MAX, 0)
    _set(_TRIM_THRESHOLD, -1)


def give_back_freed() -> None:
    """Have the C library ask the system for each larger block by itself, and return it when it is freed: from its heap,
    which it would grow after the first steps, next to nothing comes back."""
    _set(_MMAP_MAX, _DEFAULT_MMAP_MAX)
    _set(_TRIM_THRESHOLD, _DEFAULT_TRIM_BYTES)
    _set(_MMAP_THRESHOLD, _OWN_BLOCK_BYTES)


def _set(name: int, value: int) -> None:
    with suppress(AttributeError, OSError):  # not the GNU library
        ctypes.CDLL(None).mallopt(name, value)

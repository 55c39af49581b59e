"""What a job's failure is in words, and whether the same again may go better."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from paddock.errors import BackendError, BackendSetupError, BackendTimeoutError, NoSpaceError, PaddockError

_NO_SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed writing file")
"""How libraries say it that raise errors of their own."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed; `retryable`: the same request may go better another time; `is_passing`: so soon that the job is
    put off instead of failed."""

    reason: str
    retryable: bool
    is_passing: bool = False


NO_SPACE = Failure("The disk is full. Make room, then send the request again.", retryable=True)


def describe(error: Exception) -> Failure:
    """What `error`, which ended a job, means for it."""
    if any(_is_no_space(cause) for cause in _causes(error)):
        return NO_SPACE
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return Failure(
            "The job needs more memory than it may take (`max_job_memory_bytes`) or than there is.", retryable=False
        )
    if isinstance(error, BackendSetupError):
        return Failure(error.detail, retryable=False)
    if isinstance(error, BackendError | BackendTimeoutError):
        return Failure(error.detail, retryable=True, is_passing=True)
    if isinstance(error, PaddockError):
        return Failure(error.detail, retryable=False)
    return Failure(f"{type(error).__name__}: {error}", retryable=False)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_no_space(error: BaseException) -> bool:
    if isinstance(error, NoSpaceError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(words in str(error) for words in _NO_SPACE_WORDS)

from __future__ import annotations

import errno

import pytest

from paddock.errors import BackendError, BackendSetupError, BackendTimeoutError, InvalidRequestError, NoSpaceError
from paddock.jobs.failures import Failure, describe

FULL = "The disk is full. Make room, then send the request again."


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (BackendError("It is away."), Failure("It is away.", retryable=True, is_passing=True)),
        (BackendSetupError("Its `api_key`"), Failure("Its `api_key`", retryable=False)),
        (BackendTimeoutError("It is late."), Failure("It is late.", retryable=True, is_passing=True)),
        (InvalidRequestError("No such column."), Failure("No such column.", retryable=False)),
        (ValueError("what"), Failure("ValueError: what", retryable=False)),
        (NoSpaceError("here"), Failure(FULL, retryable=True)),
        (OSError(errno.ENOSPC, "No space left on device"), Failure(FULL, retryable=True)),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Failure(FULL, retryable=True)),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"), Failure(FULL, retryable=True)),
        (OSError(errno.EACCES, "Permission denied"), Failure("PermissionError: [Errno 13] Permission denied", False)),
    ],
)
def test_what_an_error_means(error: Exception, failure: Failure) -> None:
    assert describe(error) == failure


def test_a_cause_counts() -> None:
    def save() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not save") from error

    with pytest.raises(RuntimeError) as raised:
        save()
    assert describe(raised.value).reason == FULL
    assert "max_job_memory_bytes" in describe(MemoryError()).reason

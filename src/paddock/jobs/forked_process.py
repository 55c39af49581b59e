"""A process that the fork server has forked, as the server sees it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from typing import IO


class ForkedProcess:
    """What is asked of a `subprocess.Popen` here, for a process that is another's child. The fork server tells of it through
    a pipe: first its number, then its exit code."""

    def __init__(self, input_end: int, status_end: int) -> None:
        self.stdin: IO[bytes] | None = os.fdopen(input_end, "wb")
        self.pid = 0
        self.returncode: int | None = None
        self._status = os.fdopen(status_end, "rb", buffering=0)
        self._poll = selectors.PollSelector()
        self._poll.register(self._status, selectors.EVENT_READ)

    def wait_for_start(self, seconds: float) -> bool:
        """Whether it runs by then. If not, this is closed, and it will not."""
        line = self._status.readline() if self._poll.select(seconds) else b""
        if not line:
            self._close_status()
            assert self.stdin is not None
            self.stdin.close()
            return False
        self.pid = int(line)
        return True

    def poll(self) -> int | None:
        """Its exit code, if it has ended; negative for the signal that ended it."""
        if self.returncode is None and self._poll.select(0):
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            # Nothing comes where the fork server was killed: its forks are, too.
            self.returncode = int(self._status.readline() or -signal.SIGKILL)
            self._close_status()
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def _close_status(self) -> None:
        self._poll.close()
        self._status.close()

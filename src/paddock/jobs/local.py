"""A job's process on this machine: how it is started, told to stop, and noticed when it ends.

The child gets its settings as the first line of its standard input, which then stays open: when the parent dies, the
child reads its end and goes too. Its own session and process group let a kill reach whatever it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paddock.settings import Settings

EXIT_STOPPED = 75
"""A job's process ends so after it was asked to stop and left its work resumable (`EX_TEMPFAIL` of sysexits.h)."""

_LOG_TAIL_BYTES = 4096


def start_process(
    arguments: list[str], settings: Settings, log_file: Path, *, pass_fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start `paddock ARGUMENTS` as a child that dies with this process; its output goes to `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    # Its settings come by its standard input. What the environment says of them may hold keys, which it needs none of.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")} | {
        # Threads of OpenMP and MKL are set before the libraries are loaded, or not at all.
        "OMP_NUM_THREADS": str(settings.num_threads),
        "MKL_NUM_THREADS": str(settings.num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            # -P: the working folder is no place to import modules from.
            [sys.executable, "-P", "-m", "paddock", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(settings.for_children().model_dump_json().encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; whoever waits for it learns so
    return process


def read_settings() -> Settings:
    """In the child: the settings that the parent wrote, and from now on death with the parent."""
    line = sys.stdin.buffer.readline()
    settings = Settings.model_validate_json(line)
    threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()
    return settings


def _die_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # Whatever this process started goes with it.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def on_terminate(callback: Callable[[], None]) -> None:
    """In the child: call `callback` when the parent asks politely for an end."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: callback())
    # Ctrl-C in a terminal is for the parent, which then tells its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class JobProcess:
    """The process of one attempt, as the worker sees it."""

    def __init__(
        self, job_id: str, attempt: int, settings: Settings, log_file: Path, *, is_coordinator: bool = False
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.is_coordinator = is_coordinator
        self._log_file = log_file
        self._stop_asked_at: float | None = None
        self._grace_seconds = settings.cancel_grace_seconds
        self._process = start_process(["run-job", "--attempt", str(attempt), "--", job_id], settings, log_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send the polite signal; once the grace is over, the hard one. To be called until the process is gone."""
        if self._process.poll() is not None:
            return
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            self._process.terminate()
        elif time.monotonic() - self._stop_asked_at > self._grace_seconds:
            self.kill()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def reap(self) -> None:
        """Free what the ended process left in this one, and end what it left running."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def ending(self) -> str:
        """In words, how the process ended, with the last lines of its log."""
        code = self._process.returncode
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        tail = log_tail(self._log_file)
        return f"{how}. Last lines of its log:\n{tail}" if tail else f"{how}."


def log_tail(log_file: Path, lines: int = 10) -> str:
    """The last lines of a log."""
    try:
        with log_file.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])

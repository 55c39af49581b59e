"""A job's process on this machine: how it is started, told to stop, and noticed when it ends.

The child gets its settings as the first line of its standard input, which then stays open: another line tells it that
its job was cancelled, and when the parent dies, the child reads the end and goes too. Its own session and process group
let a kill reach whatever it started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paddock.jobs.forked_process import ForkedProcess
from paddock.jobs.job import Job
from paddock.settings import Settings

EXIT_STOPPED = 75
"""A job's process ends so after it was asked to stop and left its work resumable (`EX_TEMPFAIL` of sysexits.h)."""

EXIT_NO_SPACE = 73
"""A job's process ends so when the disk is full and not even that could be stored (`EX_CANTCREAT`)."""

_LOG_TAIL_BYTES = 4096
STDIN = 0
_PR_SET_PDEATHSIG = 1


def start_process(
    arguments: list[str], settings: Settings, log_file: Path | None, *, pass_fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start `paddock ARGUMENTS` as a child that dies with this process; its output goes to `log_file`, or nowhere."""
    log_file = log_file or Path(os.devnull)
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
    tell(process, settings.for_children().model_dump_json().encode())
    return process


def tell(process: subprocess.Popen[bytes] | ForkedProcess, line: bytes) -> None:
    """Write a line to a child's standard input. One that is gone hears nothing; whoever waits for it learns that."""
    assert process.stdin is not None
    try:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        # What could not be written would be tried again, and fail again, when this is closed.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def release(process: subprocess.Popen[bytes] | ForkedProcess) -> None:
    """Wait for a process that was killed or has ended, and free what it left in this one."""
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def read_settings() -> Settings:
    """In the child: the settings that the parent wrote, and from now on death with the parent."""
    settings = Settings.model_validate_json(read_line())
    listen_to_parent()
    return settings


def listen_to_parent() -> None:
    """In the child: hear of a cancel, and die with the parent, in a thread of its own."""
    threading.Thread(target=_listen_to_parent, name="parent-watch", daemon=True).start()


def read_line() -> bytes:
    """In the child: a line of the standard input, and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(STDIN, 1)
        if not byte:
            # The parent died at once.
            raise SystemExit(1)
        line += byte
    return bytes(line)


_is_cancelled = threading.Event()
_on_cancel: list[Callable[[], None]] = []


def _listen_to_parent() -> None:
    """A thread, not a signal's handler: that one would wait for the main thread to leave a long computation."""
    while os.read(STDIN, 4096):
        _is_cancelled.set()
        for callback in _on_cancel:
            callback()
    # Whatever this process started goes with it.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def on_cancel(callback: Callable[[], None]) -> None:
    """In the child: call `callback`, in another thread, when the job is cancelled."""
    _on_cancel.append(callback)
    if _is_cancelled.is_set():
        callback()


def prepare_process(settings: Settings) -> None:
    """In a job's process: keep to the limits of the settings, and die with the parent even while stopped."""
    if settings.job_nice:
        os.nice(settings.job_nice)
    if settings.max_job_memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (settings.max_job_memory_bytes, settings.max_job_memory_bytes))
    die_with_parent()


def die_with_parent() -> None:
    """End with the thread that started or forked this process, the worker's or the fork server's, even while stopped: then
    no end of the input is read."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def on_terminate(callback: Callable[[], None]) -> None:
    """In the child: call `callback` when the parent asks politely for an end."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: callback())
    # Ctrl-C in a terminal is for the parent, which then tells its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class JobProcess:
    """The process of one attempt, as the worker sees it: `process`, which knows of the job, or a new one."""

    def __init__(
        self,
        job: Job,
        settings: Settings,
        log_file: Path,
        process: subprocess.Popen[bytes] | ForkedProcess | None = None,
    ) -> None:
        self.job_id = job.job_id
        self.kind = job.kind
        self.attempt = job.attempt
        self._log_file = log_file
        self._stop_asked_at: float | None = None
        self._is_told = False
        self._grace_seconds = settings.cancel_grace_seconds
        self._process = process or start_process(
            ["run-job", "--attempt", str(job.attempt), "--", job.job_id], settings, log_file
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    @property
    def is_ending(self) -> bool:
        """Whether it was asked to end."""
        return self._stop_asked_at is not None

    def ask_to_stop(self, *, cancelled: bool) -> None:
        """Ask the process to leave its work resumable, or, once it is `cancelled`, to end as soon as what it is saving
        is saved; after the grace comes the hard signal. To be called until the process is gone."""
        if self._process.poll() is not None:
            return
        if cancelled and not self._is_told:
            self._is_told = True
            tell(self._process, b"cancelled")
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            # A process that has not yet come as far as listening ends by it.
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
        release(self._process)

    def ending(self) -> str:
        """In words, how the process ended."""
        code = self.exit_code
        assert code is not None
        return f"it ended by {signal.Signals(-code).name}." if code < 0 else f"it ended with exit code {code}."

    @property
    def log_tail(self) -> str:
        """The last lines that the process printed."""
        return log_tail(self._log_file)


def log_tail(log_file: Path, lines: int = 10) -> str:
    """The last lines of a log."""
    try:
        with log_file.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    # No database keeps a null character in a text.
    return "\n".join(text.replace("\0", "\ufffd").splitlines()[-lines:])

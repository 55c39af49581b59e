"""The process that forks one for each job: it has Python and the libraries in memory, which take longer to load than a short
evaluation to run. Here are both ends of what it and the server say to each other.

The server sends a job with the ends of two pipes: one becomes the standard input of the job's process, through the other
come that process's number and, later, its exit code. When the fork server dies, its jobs die with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddock.jobs import local
from paddock.jobs.forked_process import ForkedProcess
from paddock.jobs.job import Job
from paddock.jobs.local import JobProcess
from paddock.settings import Settings

log = logging.getLogger("paddock.jobs")

_KEPT_SECONDS = 600.0
_FORK_SECONDS = 5.0
"""So long a job waits for its fork before it gets a process in the plain way. The worker does nothing else meanwhile."""

_READY = b"ready"
_MESSAGE_BYTES = 1 << 16


def _is_possible() -> bool:
    """Whether this system tells by a descriptor that a process has ended. On others, libraries may not bear a fork."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


class ForkServer:
    """Starts the processes of jobs. What forks them is started after the first job, or with the second, and let go some time
    after the last: a job that runs alone has the memory for itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_wanted = settings.ready_job_process and _is_possible()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._is_ready = False
        self._used_at: float | None = None
        """When a job ran last, if one has lately."""

    def start_job(self, job: Job, settings: Settings, log_file: Path) -> JobProcess:
        """The process of one attempt at a job: a fork or, where none is to be had at once, one started for it."""
        # Here and not in the process: where there is no room for it, the worker is to know.
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.touch()
        process = JobProcess(job, settings, log_file, self._fork(job, log_file))
        if self._used_at is not None and self._process is None:
            self._start()
        self._used_at = time.monotonic()
        return process

    def tend(self, *, is_idle: bool) -> None:
        """Start the process, if no job runs, or let it go, if none has for long. To be called now and then."""
        if self._used_at is None:
            return
        if not is_idle:
            self._used_at = time.monotonic()
        elif time.monotonic() - self._used_at > _KEPT_SECONDS:
            self.close()
        elif self._process is None:
            self._start()

    def close(self) -> None:
        """End the process, and with it the jobs that it has forked."""
        self._used_at = None
        process, self._process = self._process, None
        if process is not None:
            assert self._channel is not None
            self._channel.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            local.release(process)

    def _start(self) -> None:
        if not self._is_wanted:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            channel = theirs.fileno()
            arguments = ["fork-jobs", "--channel", str(channel)]
            try:
                self._process = local.start_process(arguments, self._settings, log_file=None, pass_fds=(channel,))
            except OSError:
                log.exception("The fork server cannot be started; a later job tries it again.")
                ours.close()
                self._used_at = None
                return
        self._channel, self._is_ready = ours, False

    def _fork(self, job: Job, log_file: Path) -> ForkedProcess | None:
        """A process for the job, if what forks is there, ready, and answers."""
        if self._process is None:
            return None
        assert self._channel is not None
        if self._process.poll() is not None:
            log.warning("The fork server is gone (exit code %d); it is started again.", self._process.returncode)
            self.close()
            return None
        if not self._is_ready:
            with contextlib.suppress(OSError):  # nothing there yet
                self._is_ready = self._channel.recv(len(_READY)) == _READY
        if not self._is_ready:
            return None
        message = json.dumps([job.job_id, job.attempt, str(log_file)]).encode()
        input_end, our_input_end = os.pipe()
        our_status_end, status_end = os.pipe()
        with contextlib.suppress(OSError):  # it hears no more; then nobody has the pipes' ends
            socket.send_fds(self._channel, [message], [input_end, status_end])
        os.close(input_end)
        os.close(status_end)
        process = ForkedProcess(our_input_end, our_status_end)
        return process if process.wait_for_start(_FORK_SECONDS) else None


def fork_jobs(channel: socket.socket, make_ready: Callable[[], None]) -> tuple[Settings, str, int]:
    """In the fork server: make ready, then fork a process for each job that the parent names, and tell of its end. Returns
    in those processes only, with the settings, the job's id and the attempt: from then on all is as if the process had been
    started for the job."""
    settings = Settings.model_validate_json(local.read_line())
    local.die_with_parent()
    make_ready()
    # What is there now stays. A collection of garbage would look at all of it, and so copy its pages for each job.
    gc.freeze()
    channel.send(_READY)
    with selectors.DefaultSelector() as events:
        events.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.data is not None:
                    events.unregister(key.fileobj)
                    key.data.tell_end()
                    continue
                message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 2)
                if not message:
                    # The parent died.
                    raise SystemExit(0)
                if _fork(events, *descriptors):
                    channel.close()
                    job_id, attempt, log_file = json.loads(message)
                    _take_output(Path(log_file))
                    local.listen_to_parent()
                    return settings, job_id, attempt


@dataclass(frozen=True)
class _Child:
    """What the fork server keeps of a process that it has forked."""

    pid: int
    end: int
    """A descriptor that can be read from once the process has ended."""

    status_end: int

    def tell_end(self) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(self.status_end, b"%d\n" % code)
        self.close()

    def close(self) -> None:
        os.close(self.end)
        os.close(self.status_end)


def _fork(events: selectors.BaseSelector, input_end: int, status_end: int) -> bool:
    """Fork, and return in both processes whether it is the new one. That has a session of its own, and `input_end` for its
    standard input."""
    try:
        pid = os.fork()
    except OSError:  # the server sees the pipe's end, and tries it itself
        os.close(input_end)
        os.close(status_end)
        return False
    if pid != 0:
        os.close(input_end)
        child = _Child(pid, os.pidfd_open(pid), status_end)
        events.register(child.end, selectors.EVENT_READ, child)
        return False
    for key in events.get_map().values():
        if key.data is not None:
            key.data.close()
    os.setsid()
    os.dup2(input_end, local.STDIN)
    os.close(input_end)
    # Where the server has given up waiting, this raises.
    os.write(status_end, b"%d\n" % os.getpid())
    os.close(status_end)
    return True


def _take_output(log_file: Path) -> None:
    """In a job's process: print to the job's log."""
    with log_file.open("ab") as log:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(log.fileno(), descriptor)

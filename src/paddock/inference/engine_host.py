"""The server's side of the engine process: it starts when somebody connects, and again when it died.

The server listens on the unix socket but never answers there: it watches until a client knocks, then hands the socket
to a new process. A client may come before the process is up; the kernel keeps it waiting.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time

from paddock.inference.engine_messages import BACKLOG
from paddock.jobs.local import log_tail, start_process
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.engine")

_STOP_SECONDS = 5.0
"""How long the process may take to end before it is killed."""

_SHORT_LIFE_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 30.0


class EngineHost:
    """Keeps the engine of one server."""

    def __init__(self, settings: Settings, data_dir: DataDir) -> None:
        self._settings = settings
        self._log_file = data_dir.engine_log
        self._socket_path = data_dir.engine_socket
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wake_reader, self._wake_writer = os.pipe()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._num_short_lives = 0
        self._thread = threading.Thread(target=self._run, name="engine-host", daemon=True)

    @property
    def pid(self) -> int | None:
        """The engine process, while there is one."""
        with self._lock:
            return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Listen. The process itself starts with the first connection."""
        self._socket_path.unlink(
            missing_ok=True
        )  # left by a server that was killed; ours alone, by the lock on the folder
        self._listener.bind(str(self._socket_path))
        self._socket_path.chmod(0o600)  # before `listen`: nobody connects in between
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """End the process, in bounded time, and remove the socket."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.terminate()
        os.write(self._wake_writer, b"!")
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            with self._lock:
                if self._process is not None:
                    _kill_group(self._process)
            self._thread.join()
        self._listener.close()
        self._socket_path.unlink(missing_ok=True)
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _run(self) -> None:
        while self._wait_for_client():
            try:
                if not self._start_process():
                    return
            except OSError:
                log.exception("The engine for local models cannot be started.")
                self._num_short_lives += 1
            else:
                self._reap_process()
            if self._num_short_lives > 1 and not self._stopping:
                # It dies as soon as it is started: a third try at once would end the same way.
                self._refuse_clients(min(2.0 ** (self._num_short_lives - 2), _MAX_PAUSE_SECONDS))

    def _wait_for_client(self) -> bool:
        """True once a client knocks, False when it is time to stop."""
        self._wait(None)
        return not self._stopping

    def _wait(self, seconds: float | None) -> None:
        """Until a client knocks, it is time to stop, or the time is over."""
        select.select([self._listener.fileno(), self._wake_reader], [], [], seconds)

    def _start_process(self) -> bool:
        with self._lock:
            if self._stopping:
                return False
            descriptor = self._listener.fileno()
            self._process = start_process(
                ["run-engine", "--socket", str(descriptor)], self._settings, self._log_file, pass_fds=(descriptor,)
            )
        log.info("The engine for local models is process %d.", self._process.pid)
        return True

    def _reap_process(self) -> None:
        """Wait for the process to end, and free what it leaves."""
        process = self._process
        assert process is not None
        started_at = time.monotonic()
        process.wait()
        with self._lock:
            self._process = None
        _kill_group(process)
        if process.stdin is not None:
            process.stdin.close()
        if self._stopping:
            return
        lived_seconds = time.monotonic() - started_at
        self._num_short_lives = self._num_short_lives + 1 if lived_seconds < _SHORT_LIFE_SECONDS else 0
        log.error(
            "The engine for local models ended by itself (%s) after %.0f s; the next request starts it again. "
            "Last lines of its log:\n%s",
            _ending(process.returncode),
            lived_seconds,
            log_tail(self._log_file),
        )

    def _refuse_clients(self, seconds: float) -> None:
        """Hang up on whoever comes, for a while: a client learns that there is no engine rather than wait for one."""
        log.error("The engine keeps ending right after its start; requests for local models fail for %.0f s.", seconds)
        deadline = time.monotonic() + seconds
        while not self._stopping and (remaining := deadline - time.monotonic()) > 0:
            self._wait(remaining)
            with contextlib.suppress(BlockingIOError):
                self._listener.accept()[0].close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ending(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"

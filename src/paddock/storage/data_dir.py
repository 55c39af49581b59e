"""The data directory: every path the server writes to, and the lock that makes one server its owner.

Folders bear names of our own (`folder_name`), never an id that a client chose.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO

from paddock.errors import ConflictError

_SHORT_TEMPORARY_FOLDER = Path("/tmp")  # noqa: S108 -- what is made in it is checked to be our own
_UNIX_SOCKET_PATH_BYTES = 100  # the kernel takes 107; a little is left for temporary names


def folder_name(identifier: str) -> str:
    """The name of the folder or file that belongs to a client's id: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(identifier.encode()).hexdigest()[:32]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a loss of power, as `fsync` on a file does for its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DataDir:
    """Where one server keeps its state. Copying the folder copies the server."""

    def __init__(self, root: Path, checkpoint_root: Path | None = None) -> None:
        self.root = root.expanduser().resolve()
        self.checkpoints = (checkpoint_root or self.root / "checkpoints").expanduser().resolve()
        self._lock: IO[str] | None = None

    @property
    def database_file(self) -> Path:
        return self.root / "paddock.db"

    @property
    def jobs(self) -> Path:
        """The folders of all jobs."""
        return self.root / "jobs"

    def job_folder(self, job_id: str) -> Path:
        """Logs and work files of a job's attempts."""
        return self.jobs / folder_name(job_id)

    def log_file(self, job_id: str, attempt: int) -> Path:
        return self.job_folder(job_id) / f"attempt-{attempt}.log"

    @property
    def engine_log(self) -> Path:
        return self.root / "engine.log"

    @property
    def engine_socket(self) -> Path:
        """The engine's unix socket: in the data directory, or, where that path is too long for the kernel, in a
        private folder whose name follows from it, so that every process of this server finds the same one."""
        inside = self.root / "engine.sock"
        if len(os.fsencode(inside)) <= _UNIX_SOCKET_PATH_BYTES:
            return inside
        name = f"paddock-{os.getuid()}-{folder_name(str(self.root))[:16]}"
        private = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(private / "engine.sock")) > _UNIX_SOCKET_PATH_BYTES:
            private = _SHORT_TEMPORARY_FOLDER / name
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise ConflictError(
                "The folder for the engine's socket in the temporary directory belongs to someone else."
            )
        return private / "engine.sock"

    def create(self) -> None:
        """Make the folders. The root is private: it holds prompts, answers and weights."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.jobs.mkdir(exist_ok=True)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        sync_folder(self.root)

    def lock(self) -> None:
        """Become the one server of this folder until the process ends. Raises `ConflictError` if another is."""
        handle = (self.root / "lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise ConflictError(
                f"Another Paddock server uses {self.root}. Stop it, or start this one with another --data-dir."
            ) from None
        self._lock = handle

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

"""What the system says of processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of living processes whose environment or files tie them to a data directory, the server's own too:
    those that hold a file below it open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and any(file.startswith(str(data_dir)) for file in _open_files(process)):
            with contextlib.suppress(OSError):  # it ended while we looked
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def fork_servers(pid: int) -> list[psutil.Process]:
    """The living fork servers among a process's children."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "fork-jobs" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def wait_until_it_forks(pid: int) -> None:
    """Until a fork server waits for jobs: it then has a descriptor that tells of events."""
    deadline = time.monotonic() + 30
    while "anon_inode:[eventpoll]" not in _open_files(Path(f"/proc/{pid}")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # it says so next


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for link in list((process / "fd").iterdir()):
            with contextlib.suppress(OSError):  # closed while we looked
                yield str(link.readlink())

"""Where the fork server fails or does not answer, a job has its process all the same, and one only."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from paddock.jobs import fork_server, local
from paddock.jobs.fork_server import ForkServer
from paddock.jobs.job import Job, NewJob
from paddock.jobs.local import JobProcess
from paddock.jobs.store import JobStore
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database
from processes import fork_servers, wait_until_it_forks


@pytest.fixture
def job(data_dir: DataDir) -> Iterator[Job]:
    """One that nobody has claimed: its process sees that and ends."""
    database = Database("sqlite", sqlite_file=data_dir.database_file)
    database.migrate()
    jobs = JobStore(database)
    jobs.submit(NewJob("a", "eval", {}))
    yield jobs.get("a")
    database.close()


@pytest.fixture
def forks(settings: Settings, job: Job, tmp_path: Path) -> Iterator[ForkServer]:
    """One that is ready. The first job, which it is started after, did without."""
    server = ForkServer(settings)
    first = server.start_job(job, settings, tmp_path / "first")
    assert psutil.Process(first.pid).ppid() == os.getpid()
    assert _exit_code(first) == 0
    server.tend(is_idle=True)
    wait_until_it_forks(_fork_server().pid)
    yield server
    server.close()


def _exit_code(process: JobProcess) -> int:
    deadline = time.monotonic() + 30
    while (code := process.exit_code) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.reap()
    return code


def _fork_server() -> psutil.Process:
    deadline = time.monotonic() + 30
    while not (found := fork_servers(os.getpid())):  # it has no command line yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0]


def test_forks_follow_one_another_and_tell_how_they_ended(
    forks: ForkServer, job: Job, settings: Settings, tmp_path: Path
) -> None:
    logs = [tmp_path / "logs" / name for name in "ab"]
    processes = [forks.start_job(job, settings, log) for log in logs]
    assert psutil.Process(processes[0].pid).parent() == _fork_server()
    assert [_exit_code(process) for process in processes] == [0, 0]
    for log in logs:
        assert "Attempt 0 of job a is over before it began." in log.read_text()
    os.mkfifo(tmp_path / "nobody reads")  # it waits there
    killed = forks.start_job(job, settings, tmp_path / "nobody reads")
    killed.kill()
    assert _exit_code(killed) == -signal.SIGKILL
    assert killed.ending() == "it ended by SIGKILL."


@pytest.mark.parametrize("ends_at_once", [True, False])
def test_a_fork_server_that_cannot_start_is_done_without(
    job: Job, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ends_at_once: bool
) -> None:
    start = local.start_process

    def start_another(arguments: list[str], *more: Any, **named: Any) -> Any:
        if arguments[0] == "fork-jobs" and not ends_at_once:
            raise OSError(errno.EAGAIN, "too many processes")
        return start(["no-such-command"] if arguments[0] == "fork-jobs" else arguments, *more, **named)

    monkeypatch.setattr(local, "start_process", start_another)
    forks = ForkServer(settings)
    for name in "abc":
        process = forks.start_job(job, settings, tmp_path / name)
        assert psutil.Process(process.pid).ppid() == os.getpid()
        assert _exit_code(process) == 0
        forks.tend(is_idle=True)
    forks.close()


def test_none_is_started_for_a_job_that_runs_alone(job: Job, settings: Settings, tmp_path: Path) -> None:
    forks = ForkServer(settings)
    forks.tend(is_idle=True)
    first = forks.start_job(job, settings, tmp_path / "a")
    forks.tend(is_idle=False)
    time.sleep(0.1)
    assert fork_servers(os.getpid()) == []
    assert _exit_code(first) == 0
    # With the next one it is, though there was no pause between them.
    assert _exit_code(forks.start_job(job, settings, tmp_path / "b")) == 0
    wait_until_it_forks(_fork_server().pid)
    forks.close()


def test_a_fork_that_comes_too_late_does_nothing(
    forks: ForkServer, job: Job, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "_FORK_SECONDS", 0.1)
    stopped = _fork_server()
    stopped.suspend()
    process = forks.start_job(job, settings, tmp_path / "second")
    assert psutil.Process(process.pid).ppid() == os.getpid()
    stopped.resume()
    assert _exit_code(process) == 0
    monkeypatch.undo()
    assert _exit_code(forks.start_job(job, settings, tmp_path / "third")) == 0
    assert (tmp_path / "second").read_text().count("before it began") == 1


def test_it_is_let_go_some_time_after_the_last_job(forks: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "_KEPT_SECONDS", 0.2)
    server = _fork_server()
    time.sleep(0.3)
    forks.tend(is_idle=False)
    forks.tend(is_idle=True)
    assert server.is_running()
    time.sleep(0.3)
    forks.tend(is_idle=True)
    assert not server.is_running()

"""What a job's process does to itself, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_it_keeps_to_its_limits() -> None:
    process = _start(
        """
        import os
        from paddock.jobs import local
        from paddock.settings import Settings
        local.prepare_process(Settings(max_job_memory_bytes=256 << 20, job_nice=3))
        try:
            bytearray(512 << 20)
        except MemoryError:
            print(os.nice(0))
        """
    )
    printed, _ = process.communicate(timeout=60)
    assert int(printed) == os.nice(0) + 3


LISTENING = """
    import sys, time
    from paddock.jobs import local
    settings = local.read_settings()
    local.prepare_process(settings)
    local.on_cancel(lambda: (print("cancelled", flush=True), None))
    print(settings.port, flush=True)
    {work}
"""
WAIT = "time.sleep(60)"


def _listening() -> subprocess.Popen[str]:
    process = _start(LISTENING.format(work=WAIT))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"port": 17}\n')
    process.stdin.flush()
    assert process.stdout.readline() == "17\n"
    return process


def test_it_hears_of_a_cancel_at_once_and_dies_with_its_parent() -> None:
    process = _listening()
    assert process.stdin is not None
    assert process.stdout is not None
    asked = time.monotonic()
    process.stdin.write("cancelled\n")
    process.stdin.flush()
    assert process.stdout.readline() == "cancelled\n"
    assert time.monotonic() - asked < 5
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(20) == -signal.SIGKILL
    process.stdout.close()


def test_a_cancel_that_comes_before_it_listens_is_not_missed() -> None:
    process = _start(LISTENING.format(work=WAIT))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"port": 17}\ncancelled\n')
    process.stdin.flush()
    assert {process.stdout.readline(), process.stdout.readline()} == {"17\n", "cancelled\n"}
    process.kill()
    process.wait(20)
    process.stdin.close()
    process.stdout.close()


def test_it_dies_with_its_parent_even_while_it_is_stopped() -> None:
    parent = _start(
        """
        import subprocess, sys, time
        code = (
            "import time; from paddock.jobs import local; local.prepare_process(local.read_settings());"
            " print('up', flush=True); time.sleep(60)"
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        child.stdin.write("{}\\n")
        child.stdin.flush()
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
        """
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait(20)
    deadline = time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.stdin.close()
    parent.stdout.close()


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

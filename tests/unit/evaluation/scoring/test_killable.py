"""Work that takes too long, or takes its process along, is a failed row; what comes after it goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation.scoring import killable
from paddock.evaluation.scoring.function import CannotScoreError
from paddock.evaluation.scoring.math_response import compare


def test_a_text_is_bounded() -> None:
    with pytest.raises(CannotScoreError, match="longer than"):
        asyncio.run(killable.call(compare, "1", "1" * 70_000))


def test_what_never_ends_is_killed_and_the_next_row_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killable, "CPU_SECONDS", 1)

    async def two_rows() -> str:
        with pytest.raises(CannotScoreError, match="longer than 1 s of processor time"):
            await killable.call(re.fullmatch, "(a+)+b", "a" * 60)
        return await killable.call(os.path.basename, "a/b")

    assert asyncio.run(two_rows()) == "b"


def test_what_only_waits_is_killed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killable, "WALL_SECONDS", 1.0)
    with pytest.raises(CannotScoreError, match=r"longer than 1 s\."):
        asyncio.run(killable.call(signal.pause))


def test_each_row_has_the_time_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, and rows that together take longer than one may."""

    async def rows() -> list[int]:
        return [await killable.call(burn, "0.4") for _ in range(9)]

    monkeypatch.setattr(killable, "CPU_SECONDS", 1)
    assert asyncio.run(rows()) == [1] * 9


def burn(seconds: str) -> int:
    end = time.process_time() + float(seconds)
    while time.process_time() < end:
        pass
    return 1


def test_a_process_that_dies_is_that_rows_failure() -> None:
    async def two_rows() -> str:
        with pytest.raises(CannotScoreError, match="failed over this row"):
            await killable.call(os.abort)
        return await killable.call(os.path.basename, "a/b")

    assert asyncio.run(two_rows()) == "b"


def test_a_library_that_raises_is_that_rows_failure() -> None:
    with pytest.raises(CannotScoreError, match="ValueError"):
        asyncio.run(killable.call(int, "seven"))


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"needs no_such_library.*paddock\[scoring\]"):
        killable.require("/scoring_functions/0", "math_verify", "no_such_library")


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os, time
            from paddock.evaluation.scoring import killable

            if __name__ == "__main__":
                asyncio.run(killable.call(os.path.basename, "a/b"))
                print("ready", flush=True)
                time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs(children, timeout=10)[1] == []

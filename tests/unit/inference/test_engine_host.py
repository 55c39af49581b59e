"""How the engine process begins and ends, without models."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from paddock.egress import Egress
from paddock.errors import BackendError
from paddock.inference import engine_host
from paddock.inference.engine import Model, Sampling
from paddock.inference.engine_host import EngineHost
from paddock.inference.local import LocalEngine
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir


async def complete(data_dir: DataDir, model: Model) -> None:
    engine = LocalEngine(data_dir.engine_socket, data_dir.checkpoints, Egress(()), deadline_seconds=60)
    try:
        await engine.complete(model, "abc", Sampling(max_tokens=1))
    finally:
        await engine.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_runs_until_somebody_connects(settings: Settings, data_dir: DataDir) -> None:
    host = EngineHost(settings, data_dir)
    host.start()
    mode = data_dir.engine_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert host.pid is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(data_dir.engine_socket))
        deadline = time.monotonic() + 20
        while host.pid is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        pid = host.pid
        started_at = time.monotonic()
        host.stop()
        assert time.monotonic() - started_at < 8
    assert not is_alive(pid)
    assert not data_dir.engine_socket.exists()


def test_a_socket_left_behind_is_no_hindrance(settings: Settings, data_dir: DataDir) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(data_dir.engine_socket))
    host = EngineHost(settings, data_dir)
    host.start()
    host.stop()
    assert not data_dir.engine_socket.exists()


def test_an_engine_that_dies_at_its_start_is_not_started_hot(
    settings: Settings, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python does not get far in a home that is none; the clients are told rather than kept."""
    host = EngineHost(settings, data_dir)
    host.start()
    monkeypatch.setattr(engine_host, "_MAX_PAUSE_SECONDS", 0.5)
    model = Model("tiny", "local", str(data_dir.root))
    with monkeypatch.context() as broken:
        broken.setenv("PYTHONHOME", "/nowhere")
        for _ in range(8):
            with pytest.raises(BackendError, match="ended before it answered"):
                asyncio.run(complete(data_dir, model))
    starts = [record for record in caplog.records if "ended by itself (exit code 1)" in record.getMessage()]
    assert 2 <= len(starts) <= 6
    host.stop()
    assert not data_dir.engine_socket.exists()


def test_stop_ends_a_pause(settings: Settings, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    host = EngineHost(settings, data_dir)
    host._num_short_lives = 6
    host.start()
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(BackendError):
        asyncio.run(complete(data_dir, Model("tiny", "local", str(Path("/nowhere")))))
    started_at = time.monotonic()
    host.stop()
    assert time.monotonic() - started_at < 5

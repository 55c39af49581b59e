"""The server process itself: how it starts, what it costs, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from live_server import LiveServer
from processes import processes_of

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "peft", "sentence_transformers", "alembic", "pandas", "aiohttp")


def test_a_start_imports_no_tensors() -> None:
    """Everything that `paddock serve` imports, in a process of its own."""
    code = (
        "import sys, paddock.cli.serve, paddock.server.serving, paddock.wiring\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_variable_that_no_setting_reads_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_PROT", "1")
    with LiveServer(tmp_path, port=0) as server:
        assert "PADDOCK_PROT (is PADDOCK_PORT meant?)" in server.log


def test_a_served_request_maps_no_torch_and_little_memory(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        server.call("GET", "/v1beta/datasets")
        server.call("GET", "/openapi.json")
        process = psutil.Process(server.pid)
        mapped = [region.path for region in process.memory_maps()]
        assert not [path for path in mapped if "torch" in path or "numpy" in path]
        assert process.memory_info().rss < 150e6
        assert server.stop() == 0
        assert processes_of(server.data_dir) == []


def test_ctrl_c_ends_with_success_and_leaves_nothing(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        server.stop(signal.SIGINT)
        assert "Traceback" not in server.log
        assert processes_of(server.data_dir) == []


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        second = subprocess.run(
            [sys.executable, "-m", "paddock", "serve", "--data-dir", str(server.data_dir), "--port", "0"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "Another Paddock server" in second.stderr
        assert "Traceback" not in second.stderr


def test_a_taken_port_and_an_open_host_are_refused_in_words(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        port = str(httpx.URL(server.url).port)
        for flags, words in ((["--port", port], "Choose another --port"), (["--host", "0.0.0.0"], "on loopback only")):
            other = subprocess.run(
                [sys.executable, "-m", "paddock", "serve", "--data-dir", str(tmp_path / "other"), *flags],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert other.returncode == 1
            assert words in other.stderr


def test_a_folder_that_no_server_can_use_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "paddock.db").write_bytes(b"no database" * 1000)
    for folder, words in ((tmp_path / "file", "name another with --data-dir"), (damaged, "`paddock backup`")):
        refused = subprocess.run(
            [sys.executable, "-m", "paddock", "serve", "--data-dir", str(folder), "--port", "0"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode == 1
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr

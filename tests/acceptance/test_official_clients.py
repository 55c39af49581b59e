"""The official clients, unmodified, each version in a process of its own against one live server: every method that
they have for our operations, and what they repeat by themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

import install_clients
from bodies import answer_sums, lab
from cutting_proxy import CuttingProxy
from live_server import LiveServer
from model_server import ModelServer

DRIVER_SECONDS = 540
"""Half a minute on a free machine; a busy one takes its time to train."""

pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent


def _answer(body: dict[str, Any]) -> str | web.Response:
    """As `answer_sums`; the model `down` is one whose server refuses our key, which is a 502 of ours at once."""
    return web.Response(status=401) if body["model"] == "down" else answer_sums(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, minilm: Path) -> Iterator[LiveServer]:
    models = [
        *({"model_id": name, "provider_id": "lab", "model_type": "llm"} for name in ("sums-1", "judge-1", "down")),
        {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
        {"model_id": "minilm", "provider_id": "local", "provider_model_id": str(minilm), "model_type": "rerank"},
    ]
    with (
        ModelServer(_answer, delay_seconds=0.02) as model_server,
        LiveServer(
            tmp_path_factory.mktemp("server"),
            providers=[lab(model_server)],
            registered_resources={"models": models},
        ) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def proxy(server: LiveServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(_port(server)) as proxy:
        yield proxy


def _port(server: LiveServer) -> int:
    port = httpx.URL(server.url).port
    assert port is not None
    return port


def _run(*command: str, environment: dict[str, str]) -> str:
    """Run one client's program; what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False, env=os.environ | environment
    )
    # The clients log each request; the end is what says why one failed.
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    return done.stdout


def _python(version: str, *arguments: str) -> str:
    """Run the program of Python's clients with one version."""
    folder = install_clients.folder("pip", version)
    assert folder.exists(), f"llama-stack-client {version} is not installed: run `make setup`."
    path = os.pathsep.join([str(folder), str(HERE), str(HERE.parent)])
    return _run(sys.executable, str(HERE / "drive_client.py"), *arguments, environment={"PYTHONPATH": path})


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("version", install_clients.pinned("pip"))
def test_python(server: LiveServer, proxy: CuttingProxy, version: str, mode: str) -> None:
    report = json.loads(_python(version, server.url, proxy.url, mode))
    assert (report["version"], report["left_out"]) == (version, [])
    # 0.7.5 has no post-training and registers no models; 0.3.5 unregisters neither benchmarks nor functions.
    assert len(report["called"]) >= 35
    assert _seen(proxy, f"v{version}-{mode}") == {
        "register": 2, "append": 2, "run_eval": 2, "conflict": 1, "not found": 1, "down": 3,
    } | ({} if version == "0.7.5" else {"tune": 2})  # fmt: skip


def _seen(proxy: CuttingProxy, prefix: str) -> dict[str, int]:
    """How often each request of one client came."""
    return {
        name.removeprefix(f"{prefix} "): count for name, count in proxy.seen.items() if name.startswith(f"{prefix} ")
    }


@pytest.mark.parametrize("version", install_clients.pinned("npm"))
def test_typescript(server: LiveServer, proxy: CuttingProxy, version: str) -> None:
    node, folder = shutil.which("node"), install_clients.folder("npm", version)
    if node is None or not folder.exists():
        pytest.skip(
            f"*** NOT TESTED: the TypeScript client {version} needs node and npm's registry at `make setup`. ***"
        )
    command = (node, str(HERE / "drive_client.cjs"), str(folder), server.url, proxy.url)
    report = json.loads(_run(*command, environment={}))
    assert (report["version"], report["left_out"]) == (version, [])
    assert len(report["called"]) >= 35
    assert _seen(proxy, f"v{version}-ts") == {
        "register": 2, "append": 2, "run_eval": 2, "conflict": 1, "not found": 1, "down": 3,
    }  # fmt: skip


@pytest.mark.parametrize("version", install_clients.pinned("pip"))
def test_too_many_requests_come_again_and_are_done_once(tmp_path: Path, version: str) -> None:
    models = [{"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"}]
    with ModelServer(_answer, delay_seconds=1.0) as model_server:
        resources = {"models": models}
        settings = {"providers": [lab(model_server)], "registered_resources": resources, "max_requests_in_flight": 1}
        with LiveServer(tmp_path, **settings) as server, CuttingProxy(_port(server)) as proxy:
            _python(version, server.url, proxy.url, "sync", "too_many")
            assert _seen(proxy, f"v{version}-sync")["too many"] >= 2
            assert " 429 " in server.log

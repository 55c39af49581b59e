"""`paddock models export`, `push` and `show` on a server's data directory, with a stand-in for the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.numpy import load

from hub_server import HubServer
from paddock.inference.engine import Model
from paddock.wiring import Resources
from tiny_models import make_adapter

Invoke = Callable[..., Result]


@pytest.fixture
def checkpoint(resources: Resources, tiny_llama: Path) -> str:
    """A checkpoint as training leaves it."""
    make_adapter(tiny_llama, resources.data_dir.checkpoints / "run" / "epoch-1")
    model = Model(
        "run:epoch-1", "local", "run/epoch-1", metadata={"base_model": "tiny", "epoch": 1}, job_id="run",
        base_model=str(tiny_llama),
    )  # fmt: skip
    resources.inference.models.register(model)
    return model.model_id


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer("hf_key") as hub:
        yield hub


def data_dir(resources: Resources) -> tuple[str, str]:
    return "--data-dir", str(resources.data_dir.root)


def test_export(invoke: Invoke, resources: Resources, checkpoint: str, tmp_path: Path) -> None:
    output = invoke("models", "export", checkpoint, tmp_path / "out", *data_dir(resources)).output
    assert "as adapter" in output
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert str(tmp_path / "out" / "SERVING.md") in output
    invoke("models", "export", checkpoint, tmp_path / "whole", "--format", "merged", *data_dir(resources))
    assert (tmp_path / "whole" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("run:epoch-1", "--format", "gguf"), "convert_hf_to_gguf.py"),
        (("nobody",), "There is no model nobody"),
        (("judge",), "with the provider lab"),
    ],
)
def test_what_cannot_be_exported_is_said(
    invoke: Invoke, resources: Resources, checkpoint: str, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    resources.inference.models.register(Model("judge", "lab", "judge-1"))
    model, *options = words
    output = invoke("models", "export", model, tmp_path / "out", *options, *data_dir(resources), code=1).output
    assert reason in output
    assert not (tmp_path / "out").exists()


def test_a_data_directory_that_is_none_is_said(invoke: Invoke, tmp_path: Path) -> None:
    output = invoke("models", "export", "x", tmp_path / "out", "--data-dir", tmp_path / "nothing", code=1).output
    assert "no server's database" in output


def pushed(hub: HubServer, resources: Resources, *words: str, key: str = "hf_key") -> subprocess.CompletedProcess[str]:
    """In a process of its own: this one's hub library knows that it is offline."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": key, "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "paddock", "models", "push", *words, *data_dir(resources)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_push(hub: HubServer, resources: Resources, checkpoint: str) -> None:
    done = pushed(hub, resources, checkpoint, "me/mine", "--format", "merged")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/mine" in done.stdout
    assert hub.repositories == {"me/mine": True}
    assert {"config.json", "tokenizer.json", "SERVING.md", "Modelfile", "model.safetensors"} <= set(hub.files)
    assert len(load(hub.files["model.safetensors"])) > 10
    refused = pushed(hub, resources, checkpoint, "me/mine", "--format", "merged", key="wrong")
    assert refused.returncode == 1
    assert "The hub did not take it" in refused.stderr


def test_an_adapter_whose_base_nobody_else_has_is_not_pushed(
    hub: HubServer, resources: Resources, checkpoint: str
) -> None:
    done = pushed(hub, resources, checkpoint, "me/mine")
    assert done.returncode == 1
    assert "push `--format merged`" in " ".join(done.stderr.split())
    assert hub.repositories == {}


def test_show(invoke: Invoke, resources: Resources, checkpoint: str, tiny_llama: Path) -> None:
    shown = json.loads(invoke("models", "show", checkpoint, "--json").output)["profile"]
    num_parameters = sum(tensor.size for tensor in load((tiny_llama / "model.safetensors").read_bytes()).values())
    num_of_adapter = 2 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4)
    assert shown == {
        "model_id": checkpoint, "provider_id": "local", "job_id": "run", "base_model": "tiny", "is_here": True,
        "architecture": "LlamaForCausalLM", "num_parameters": num_parameters,
        "num_adapter_parameters": num_of_adapter, "dtype": "F32", "num_file_bytes": shown["num_file_bytes"],
        "cpu_memory_bytes": 4 * (num_parameters + num_of_adapter),
        "gpu_memory_bytes": 2 * (num_parameters + num_of_adapter),
        "context": 512, "has_chat_template": True, "reads_images": False, "licence": None,
    }  # fmt: skip
    (tiny_llama / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    try:
        table = invoke("models", "show", checkpoint).output
    finally:
        (tiny_llama / "README.md").unlink()
    for words in ("LlamaForCausalLM", f"{num_parameters:,}", "F32", "apache-2.0", "run", "512"):
        assert words in table
    assert invoke("models", "list").output.splitlines()[1].split()[-1] == "run"


def test_show_of_what_is_elsewhere(invoke: Invoke, resources: Resources) -> None:
    resources.inference.models.register(Model("judge", "lab", "judge-1"))
    shown = json.loads(invoke("models", "show", "judge", "--json").output)
    assert (shown["profile"]["is_here"], shown["profile"]["num_parameters"]) == (False, None)
    assert "not on this machine" in invoke("models", "show", "judge").output

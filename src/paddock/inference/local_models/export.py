"""A checkpoint as files for elsewhere: its adapter, or whole weights with the adapter folded in, and how to serve them.

Runs in the process of whoever asks for it. Nothing is left behind in a folder that could not be finished.
"""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from paddock import hub, wire
from paddock.errors import ConflictError, InvalidRequestError
from paddock.inference.engine_messages import LocalModel
from paddock.inference.local_models import model_files
from paddock.inference.local_models.model_files import ModelFiles

ADAPTER, MERGED = "adapter", "merged"

_TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "chat_template*", "vocab.*", "merges.txt", "*.model", "added_tokens.json",
)  # fmt: skip
_RECORD_FILES = ("README.md", "training_request.json")

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `--max-lora-rank` takes."""


class Exported(NamedTuple):
    """What was written: its form, and the base that an adapter needs."""

    form: str
    base: str | None


def export(model: LocalModel, folder: Path, form: str | None = None) -> Exported:
    """Write a model's files into `folder`, which is not there yet or empty, in the form `adapter` or `merged`; without one
    as the adapter that it is, else as whole weights.

    Raises `InvalidRequestError` for a model that is not of that form, and `ConflictError` for a folder in use."""
    files = model_files.find(model)
    form = form or (MERGED if files.adapter is None else ADAPTER)
    if form == ADAPTER and files.adapter is None:
        raise InvalidRequestError(f"{model.model_id} is whole weights, no adapter: export it as `{MERGED}`.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"{folder} is not empty. Name a folder that is not there yet.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with ExitStack() as cleanup:
        partial.mkdir()
        cleanup.callback(shutil.rmtree, partial, ignore_errors=True)
        base = None
        if form == ADAPTER:
            assert files.adapter is not None
            base = model.weights if model.adapter else str(files.base)
            _write_adapter(files.adapter, base, partial)
        elif files.adapter is None:
            _copy(files.base, partial, "*.json", "*.safetensors", *_TOKENIZER_FILES, *_RECORD_FILES)
        else:
            _write_merged(files, model.model_id, partial)
        _write_serving(partial, model.model_id, base)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return Exported(form, base)


def _write_adapter(adapter: Path, base: str, folder: Path) -> None:
    _copy(adapter, folder, "adapter_model.safetensors", *_TOKENIZER_FILES, *_RECORD_FILES)
    config = hub.read_config(adapter, base)
    # Training names the folder that the base was read from, which may be a cache.
    _write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": base})


def _write_merged(files: ModelFiles, model_id: str, folder: Path) -> None:
    if "quantization_config" in files.config:
        raise InvalidRequestError(
            f"The base of {model_id} is quantised, and nothing can be folded into rounded weights: export the adapter."
        )
    assert files.adapter is not None
    stored = AutoConfig.from_pretrained(files.base, trust_remote_code=False, local_files_only=True).dtype
    # Summed in float32: in the sixteen bits of most files, small changes would be lost.
    base = AutoModelForCausalLM.from_pretrained(
        files.base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    merged: Any = PeftModel.from_pretrained(base, files.adapter).merge_and_unload(safe_merge=True)
    merged.to(stored or torch.float32).save_pretrained(folder)
    has_tokenizer = (files.adapter / "tokenizer_config.json").exists()
    _copy(files.adapter if has_tokenizer else files.base, folder, *_TOKENIZER_FILES)
    _copy(files.adapter, folder, *_RECORD_FILES)
    card = folder / "README.md"
    if card.exists():
        text = card.read_text().replace("library_name: peft", "library_name: transformers")
        card.write_text(text + "\nThe adapter is folded into these weights.\n")


def _copy(source: Path, folder: Path, *patterns: str) -> None:
    for file in {file for pattern in patterns for file in source.glob(pattern) if file.is_file()}:
        shutil.copyfile(file, folder / file.name)


def _write_serving(folder: Path, model_id: str, base: str | None) -> None:
    """`SERVING.md` for vLLM and Ollama, and the `Modelfile` that the latter reads."""
    name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in model_id).strip("-.").lower()
    source = "FROM ." if base is None else f"FROM {base}\nADAPTER ."
    (folder / "Modelfile").write_text(f"{source}\n{_stops(folder)}")
    lines = [
        f"# Serving {model_id}",
        "",
        *(_vllm_whole(name) if base is None else _vllm_adapter(folder, name, base)),
        "",
        "## Ollama",
        "",
        f"    ollama create {shlex.quote(name)} -f Modelfile",
        "",
        "It reads Llama, Mistral, Gemma and Phi-3 shapes from safetensors. Look with `ollama show --template` whether it "
        "found the chat template; a `TEMPLATE` in the Modelfile says it.",
    ]
    if base is not None and Path(base).is_absolute():
        lines += ["", f"The adapter's base is the folder `{base}` of the machine that trained it."]
    (folder / "SERVING.md").write_text("\n".join(lines) + "\n")


def _vllm_whole(name: str) -> list[str]:
    return ["## vLLM", "", "In this folder:", "", f"    vllm serve . --served-model-name {shlex.quote(name)}"]


def _vllm_adapter(folder: Path, name: str, base: str) -> list[str]:
    config = json.loads((folder / "adapter_config.json").read_text())
    if config.get("use_dora"):
        return ["## vLLM", "", f"It takes no DoRA adapters: export the checkpoint as `{MERGED}`."]
    rank = next((rank for rank in _VLLM_RANKS if rank >= config["r"]), config["r"])
    command = f'vllm serve {shlex.quote(base)} --enable-lora --max-lora-rank {rank} --lora-modules {name}="$PWD"'
    return ["## vLLM", "", "In this folder:", "", f"    {command}"]


def _stops(folder: Path) -> str:
    """The tokens that end an answer, which Ollama wants said."""
    try:
        end = wire.from_json((folder / "tokenizer_config.json").read_bytes()).get("eos_token")
    except (OSError, ValueError):
        return ""
    text = end.get("content") if isinstance(end, dict) else end
    return f"PARAMETER stop {json.dumps(text)}\n" if isinstance(text, str) else ""


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")

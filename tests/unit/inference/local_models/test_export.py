"""Checkpoints as files for elsewhere: what is in them computes what the checkpoint computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from paddock.errors import ConflictError, InvalidRequestError
from paddock.inference.engine_messages import LocalModel
from paddock.inference.local_models.export import export
from tiny_models import make_adapter, make_llama, save_byte_tokenizer

IDS = torch.tensor([[5, 40, 90, 130, 200, 33]])


@pytest.fixture
def checkpoint(tiny_llama: Path, tmp_path: Path) -> LocalModel:
    folder = make_adapter(tiny_llama, tmp_path / "checkpoint", seed=3)
    save_byte_tokenizer(folder)
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n# mine\n")
    (folder / "optimizer.pt").write_bytes(b"no part of it")
    return LocalModel("my/First:epoch-1", str(tiny_llama), str(folder))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def of_checkpoint(model: LocalModel) -> torch.Tensor:
    base = AutoModelForCausalLM.from_pretrained(model.weights)
    assert model.adapter is not None
    return logits(PeftModel.from_pretrained(base, model.adapter))


def test_merged_weights_compute_the_same_without_peft(checkpoint: LocalModel, tmp_path: Path) -> None:
    assert export(checkpoint, tmp_path / "out", "merged") == ("merged", None)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(logits(merged), of_checkpoint(checkpoint), atol=1e-4)
    assert not torch.allclose(
        logits(merged), logits(AutoModelForCausalLM.from_pretrained(checkpoint.weights)), atol=1e-2
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert "library_name: transformers" in (tmp_path / "out" / "README.md").read_text()


def test_merged_weights_are_of_the_bases_type(tiny_llama: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16).save_pretrained(tmp_path / "base")
    save_byte_tokenizer(tmp_path / "base")
    adapter = make_adapter(tmp_path / "base", tmp_path / "adapter")
    export(LocalModel("m", str(tmp_path / "base"), str(adapter)), tmp_path / "out", "merged")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_an_adapter_goes_with_the_name_of_its_base(checkpoint: LocalModel, tmp_path: Path) -> None:
    assert export(checkpoint, tmp_path / "out") == ("adapter", checkpoint.weights)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == checkpoint.weights
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "out")), of_checkpoint(checkpoint))
    assert not (tmp_path / "out" / "optimizer.pt").exists()


def test_whole_weights_are_copied(tiny_llama: Path, tmp_path: Path) -> None:
    assert export(LocalModel("whole", str(tiny_llama)), tmp_path / "out") == ("merged", None)
    first, second = (logits(AutoModelForCausalLM.from_pretrained(f)) for f in (tiny_llama, tmp_path / "out"))
    assert torch.equal(first, second)
    with pytest.raises(InvalidRequestError, match="whole weights, no adapter"):
        export(LocalModel("whole", str(tiny_llama)), tmp_path / "other", "adapter")


def test_how_to_serve_it_is_written_beside_it(checkpoint: LocalModel, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "adapter", "adapter")
    export(checkpoint, tmp_path / "merged", "merged")
    adapter, merged = ((tmp_path / form / "SERVING.md").read_text() for form in ("adapter", "merged"))
    lora = '--enable-lora --max-lora-rank 8 --lora-modules my-first-epoch-1="$PWD"'
    assert f"vllm serve {checkpoint.weights} {lora}" in adapter
    assert "vllm serve . --served-model-name my-first-epoch-1" in merged
    assert "ollama create my-first-epoch-1 -f Modelfile" in merged
    modelfiles = [(tmp_path / form / "Modelfile").read_text() for form in ("adapter", "merged")]
    assert modelfiles == [
        f'FROM {checkpoint.weights}\nADAPTER .\nPARAMETER stop "<|end|>"\n',
        'FROM .\nPARAMETER stop "<|end|>"\n',
    ]


def test_a_folder_in_use_is_left_alone_and_a_failure_leaves_nothing(checkpoint: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ConflictError, match="is not empty"):
        export(checkpoint, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    export(checkpoint, tmp_path / "empty")
    other = make_llama(tmp_path / "wider", hidden_size=64)  # on which the adapter does not fit
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        export(LocalModel("m", str(other), checkpoint.adapter), tmp_path / "broken", "merged")
    assert {path.name for path in tmp_path.iterdir()} == before

"""Which folders a model's name leads to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.errors import InvalidRequestError
from paddock.inference.engine_messages import LocalModel
from paddock.inference.local_models import model_files
from tiny_models import make_adapter


@pytest.fixture(scope="module")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_llama, tmp_path_factory.mktemp("adapter"))


def test_a_folder(tiny_llama: Path) -> None:
    files = model_files.find(LocalModel("tiny", str(tiny_llama)))
    assert (files.base, files.adapter, files.architecture) == (tiny_llama, None, "LlamaForCausalLM")


def test_an_adapter_over_its_base(tiny_llama: Path, adapter: Path) -> None:
    named = model_files.find(LocalModel("tiny:epoch-1", str(tiny_llama), str(adapter)))
    # The folder of an adapter alone: it says itself what lies under it.
    alone = model_files.find(LocalModel("mine", str(adapter)))
    assert (named.base, named.adapter) == (alone.base, alone.adapter) == (tiny_llama, adapter)
    assert alone.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "kind PREFIX_TUNING"),
        ({"base_model_name_or_path": None}, "does not name its base"),
    ],
)
def test_adapters_that_cannot_be_used(tmp_path: Path, adapter: Path, changes: dict[str, object], words: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    (tmp_path / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    with pytest.raises(InvalidRequestError, match=words) as caught:
        model_files.find(LocalModel("mine", str(tmp_path)))
    assert "mine" in caught.value.detail


def test_messages_name_the_model_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        model_files.find(LocalModel("gone", str(tmp_path)))
    assert "gone" in caught.value.detail
    assert str(tmp_path) not in caught.value.detail

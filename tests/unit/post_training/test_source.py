"""Which models can be trained, and what is refused of them before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Model
from paddock.jobs.job import Job
from paddock.post_training import source
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, sft_request, submit, training


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(4))


def _submit(resources: Resources, model: str, **more: Any) -> Job:
    return submit(resources, sft_request("job", training("chats"), model=model, **more))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model("far", "lab", "some-model"), "belongs to the provider lab"),
        (Model("ranker", "local", "/models/ranker", model_type="rerank"), "of the type rerank"),
        (Model("gone", "local", "/no/such/folder"), "The model gone cannot be loaded: its folder has no config.json"),
        (Model("relative", "local", "../x"), "neither an absolute folder nor a hub id"),
    ],
)
def test_models_that_cannot_be_trained(resources: Resources, model: Model, words: str) -> None:
    resources.inference.models.register(model)
    with pytest.raises(InvalidRequestError, match=words) as refusal:
        _submit(resources, model.model_id)
    assert [error.pointer for error in refusal.value.errors] == ["/model"]
    assert "/no/such/folder" not in refusal.value.detail


def _change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_what_its_files_tell(resources: Resources, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "model", tied=True)
    resources.inference.models.register(Model("model", "local", str(folder)))

    def refused(pointer: str, words: str, **more: Any) -> None:
        with pytest.raises(InvalidRequestError, match=words) as refusal:
            _submit(resources, "model", **more)
        assert [error.pointer for error in refusal.value.errors] == [pointer]

    output = LORA | {"apply_lora_to_output": True}
    refused("/algorithm_config/apply_lora_to_output", "tied", algorithm_config=output)
    modules = LORA | {"lora_attn_modules": ["q_proj", "c_attn"]}
    refused("/algorithm_config/lora_attn_modules/1", "it has k_proj, o_proj, q_proj, v_proj", algorithm_config=modules)
    (folder / "chat_template.jinja").unlink()
    refused("/model", "no chat template")
    _change_config(folder, architectures=["BertForSequenceClassification"])
    refused("/model", "does not generate text")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x/y"}')
    refused("/model", "an adapter from elsewhere")


def test_a_hub_id_is_looked_at_when_it_is_fetched(resources: Resources) -> None:
    resources.inference.models.register(Model("hub", "local", "some-lab/some-model"))
    assert _submit(resources, "hub").kind == "sft"


def test_the_default_model_is_part_of_the_request(resources: Resources) -> None:
    settings = resources.settings.model_copy(update={"default_training_model": "tiny"})
    request = sft_request("job", training("chats"))
    del request["model"]
    job = submit(Resources(**(vars(resources) | {"settings": settings})), request)
    assert job.request["model"] == "tiny"


def test_a_checkpoint_folder_may_not_lead_out_of_the_root(resources: Resources, tmp_path: Path) -> None:
    (resources.checkpoints.root / "link").symlink_to(tmp_path)
    for outside in ("link/x", "a/../../x", "/etc", "a\0b"):
        with pytest.raises(InvalidRequestError, match="below the server's checkpoint root"):
            _submit(resources, "tiny", checkpoint_dir=outside)
    _submit(resources, "tiny", checkpoint_dir=str(resources.checkpoints.root / "team"))


def test_identifiers_of_other_models_are_not_taken(resources: Resources) -> None:
    resources.inference.models.register(Model("job:epoch-2", "local", "x/y"))
    with pytest.raises(InvalidRequestError, match="Choose another job_uuid"):
        _submit(resources, "tiny")


def test_sequences_are_as_long_as_asked_or_as_the_model_takes(tiny_llama: Path) -> None:
    assert source.sequence_limit({"max_position_embeddings": 512}, None) == 512
    assert source.sequence_limit({"max_position_embeddings": 131072}, None) == 2048
    assert source.sequence_limit({"text_config": {"max_position_embeddings": 1024}}, None) == 1024
    assert source.sequence_limit({}, None) == 2048
    assert source.sequence_limit({"max_position_embeddings": 131072}, 4096) == 4096

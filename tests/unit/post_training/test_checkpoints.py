"""What a checkpoint's folder holds, where it lies, and that nothing of a dead attempt is left or takes part."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from paddock.errors import LostLeaseError
from paddock.inference.engine import Model
from paddock.jobs import states
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.post_training import checkpoints
from paddock.post_training import job as training_job
from paddock.storage.data_dir import folder_name
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, run, sft_request, stop_at, submit, training


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(8))


def test_a_checkpoint_is_a_folder_of_the_hub(resources: Resources, tiny_llama: Path) -> None:
    run(resources, sft_request("team/tune", training("chats", n_epochs=1), checkpoint_dir="team a/first"))
    (checkpoint,) = resources.checkpoints.of_job("team/tune")
    assert checkpoint.path == f"team a/first/{folder_name('team/tune')}/attempt-1/epoch-1"
    folder = resources.checkpoints.root / checkpoint.path
    names = {file.name for file in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    weights = (folder / "adapter_model.safetensors").read_bytes()
    assert checkpoint.sha256 == hashlib.sha256(weights).hexdigest()
    adapter = json.loads((folder / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tiny_llama)
    assert (adapter["r"], adapter["lora_alpha"], adapter["inference_mode"]) == (4, 8, True)
    record = json.loads((folder / "training_request.json").read_text())
    assert record["request"]["training_config"]["data_config"]["dataset_id"] == "chats"
    assert record["datasets"] == [vars(resources.jobs.get("team/tune").reads[0])]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\n")
    assert "# team/tune:epoch-1" in card
    assert str(tiny_llama) not in card
    # Done: nothing is kept to go on from.
    assert resources.checkpoints.resume_point("team/tune") is None
    assert not resources.checkpoints.resume_root("team/tune").exists()


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_plain_libraries_give_the_same_logits_merged_or_not(
    resources: Resources, tmp_path: Path, tied: bool, use_dora: bool
) -> None:
    """With embeddings that are the output layer as well, too, on which no adapter goes."""
    base_folder = make_llama(tmp_path / "base", tied=tied)
    resources.inference.models.register(Model("base", "local", str(base_folder)))
    algorithm = LORA | {"use_dora": use_dora, "apply_lora_to_output": not tied}
    run(resources, sft_request("tune", training("chats", n_epochs=1), model="base", algorithm_config=algorithm))
    (checkpoint,) = resources.checkpoints.of_job("tune")
    folder = resources.checkpoints.root / checkpoint.path
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder).encode("say 3", add_special_tokens=False)])

    def loaded() -> Any:
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), folder).eval()

    with torch.no_grad():
        logits = loaded()(ids).logits
        torch.testing.assert_close(loaded().merge_and_unload()(ids).logits, logits, rtol=0, atol=1e-5)
        base = AutoModelForCausalLM.from_pretrained(base_folder)(ids).logits
    assert not torch.allclose(base, logits, atol=1e-2)


def _start(resources: Resources, request: dict[str, Any]) -> Progress:
    submit(resources, request)
    job = resources.jobs.claim(worker_id="test", lease_seconds=600)
    assert job is not None
    return Progress(job, resources.jobs)


def _run(resources: Resources, progress: Progress) -> None:
    training_job.run(progress, resources.settings, resources.datasets, resources.checkpoints, resources.inference)


def test_an_attempt_that_is_over_publishes_nothing_and_cleans_up(resources: Resources) -> None:
    progress = _start(resources, sft_request("tune", training("chats")))
    # The job is given to a successor just when this attempt is about to publish its first checkpoint.
    with resources.database.write() as connection:
        states.lose(connection, resources.database.now(), "tune", 1, max_lost=3, reason="silent")
    progress.report = lambda *_args, **_more: None  # type: ignore[method-assign]
    progress.set_resources = lambda **_more: None  # type: ignore[method-assign]
    with pytest.raises(LostLeaseError):
        _run(resources, progress)
    assert resources.checkpoints.of_job("tune") == []
    assert resources.inference.models.find("tune:epoch-1") is None
    assert list(resources.checkpoints.root.rglob("epoch-*")) == []


def test_a_cancelled_job_leaves_no_resume_point_for_long(resources: Resources) -> None:
    progress = _start(resources, sft_request("tune", training("chats")))
    stop_at(3)(progress)
    with pytest.raises(StopRequestedError):
        _run(resources, progress)
    folder = resources.checkpoints.resume_point("tune")
    assert folder is not None
    assert folder.exists()
    resources.jobs.cancel("tune")
    run(resources, sft_request("next", training("chats", n_epochs=1)))
    assert resources.checkpoints.resume_point("tune") is None
    assert not folder.exists()
    # What it had published stays.
    assert [c.epoch for c in resources.checkpoints.of_job("tune")] == [1]


def test_what_a_killed_attempt_did_not_publish_is_removed(resources: Resources) -> None:
    progress = _start(resources, sft_request("tune", training("chats", n_epochs=1)))
    half = resources.checkpoints.root / folder_name("tune") / "attempt-1" / "epoch-1"
    half.mkdir(parents=True)
    (half / "adapter_model.safetensors").write_bytes(b"half of it")
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), "tune", progress.job.attempt)
    run(resources, sft_request("tune", training("chats", n_epochs=1)))
    assert not half.exists()
    assert resources.checkpoints.of_job("tune")[0].path.endswith("attempt-2/epoch-1")


def test_a_job_killed_after_its_last_checkpoint_only_ends(resources: Resources) -> None:
    request = sft_request("tune", training("chats", n_epochs=1))
    progress = _start(resources, request)
    _run(resources, progress)
    before = resources.checkpoints.of_job("tune")
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), "tune", progress.job.attempt)
    run(resources, request)
    assert resources.checkpoints.of_job("tune") == before


def test_a_full_disk_leaves_nothing_half_done(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        run(resources, sft_request("tune", training("chats")))
    assert resources.checkpoints.of_job("tune") == []
    assert list(resources.checkpoints.root.rglob("epoch-*")) == []

"""Activations in a file: the same gradients to the bit, and less memory meanwhile."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock.post_training.offloading import Offload, _File
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, training

CPU = torch.device("cpu")


def _num_saved_bytes(loss: torch.Tensor) -> int:
    """The memory that a graph holds for its backward pass, weights apart."""
    seen: dict[int, int] = {}
    waiting, known = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        waiting += [following for following, _ in node.next_functions]
        for name in dir(node):
            if name.startswith("_raw_saved_"):
                raw = getattr(node, name)
                for saved in raw if isinstance(raw, tuple) else (raw,):
                    if isinstance(saved.data, torch.Tensor):
                        storage = saved.data.untyped_storage()
                        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def test_gradients_are_the_same_to_the_bit(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path, hidden_size=64))
    offload = Offload(model, CPU, tmp_path)
    ids = torch.randint(0, 261, (4, 100), generator=torch.Generator().manual_seed(0))
    gradients: list[list[Any]] = []
    for saving in (None, offload.saving, offload.saving):
        model.zero_grad()
        if saving is None:
            loss = model(ids, labels=ids).loss
        else:
            with saving():
                loss = model(ids, labels=ids).loss
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        del loss
        gc.collect()
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))
    # The second time the file was written from its beginning again.
    assert isinstance(offload._place, _File)
    assert offload._place._end == offload.peak_bytes
    assert not offload._away


def test_memory_is_given_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[m for _ in range(8) for m in (torch.nn.Linear(64, 64), torch.nn.GELU())])
    x = torch.randn(2000, 64)

    def held(offload: Offload | None) -> int:
        if offload is None:
            return _num_saved_bytes(model(x).sum())
        with offload.saving():
            return _num_saved_bytes(model(x).sum())

    offload = Offload(model, CPU, tmp_path)
    weights = sum(p.numel() * 4 for p in model.parameters())
    # 16 activations of half a megabyte (what goes into each layer, saved once), and the weights, which stay.
    activation = 2000 * 64 * 4
    assert held(None) >= 15 * activation
    assert held(offload) <= weights
    assert offload.peak_bytes == 16 * activation


def test_odd_layouts_come_back_as_they_were(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    offload = Offload(model, CPU, tmp_path)
    whole = torch.arange(4 * 6 * 200, dtype=torch.float32).view(4, 6, 200)
    for tensor in (
        whole,
        whole.transpose(0, 2),
        whole[1:3],
        whole[:, :, ::2],
        whole[:, 1:3].to(torch.bfloat16),
        whole[..., :3],  # mostly gaps: stays
        torch.ones(1).expand(1000),  # no memory of its own: stays
        torch.empty(0, 5),
        torch.arange(1000),
    ):
        packed = offload._pack(tensor)
        back = offload._unpack(packed)
        assert torch.equal(back, tensor)
        assert (back.stride(), back.dtype) == (tensor.stride(), tensor.dtype)
    assert offload._pack(whole) is not whole
    assert offload._pack(whole[..., :3]).data_ptr() == whole.data_ptr()


def test_a_changed_tensor_is_another_one(tmp_path: Path) -> None:
    offload = Offload(torch.nn.Linear(1, 1), CPU, tmp_path)
    tensor = torch.zeros(1000)
    first = offload._pack(tensor)
    assert offload._pack(tensor) is first
    tensor.add_(1)
    second = offload._pack(tensor)
    assert second is not first
    assert offload._unpack(first).sum() == 0
    assert offload._unpack(second).sum() == 1000
    # Nor is one in the same place of memory, once the first is gone.
    places = set()
    packed = []
    for value in range(20):
        tensor = torch.full((100_000,), float(value))
        places.add(tensor.data_ptr())
        packed.append(offload._pack(tensor))
        del tensor
    assert len(places) < 20
    assert [offload._unpack(p)[0].item() for p in packed] == list(range(20))


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("kind", ["lora", "full", "dpo"])
def test_a_job_ends_with_the_same_hash(resources: Resources, kind: str, recomputes: bool) -> None:
    add_dataset(resources, "data", pairs(6) if kind == "dpo" else chats(6))
    hashes, told = [], []
    for offloads in (False, True):
        efficiency = {"enable_activation_checkpointing": recomputes, "enable_activation_offloading": offloads}
        config = training("data", n_epochs=1, dtype="bf16", efficiency_config=efficiency)
        job_uuid = f"job-{offloads}"
        if kind == "dpo":
            job = run(resources, dpo_request(job_uuid, "tiny", config, lora=LORA, loss_type="kto_pair"))
        else:
            job = run(resources, sft_request(job_uuid, config, algorithm_config=LORA if kind == "lora" else None))
        hashes.append(resources.checkpoints.of_job(job_uuid)[0].sha256)
        assert job.resources is not None
        told.append(job.resources["offloaded_bytes"])
        # The file is gone with whoever had it open.
        assert list(resources.checkpoints.job_folder(job_uuid).glob("tmp*")) == []
    assert hashes[0] == hashes[1]
    assert told[0] is None
    assert told[1] > 10_000

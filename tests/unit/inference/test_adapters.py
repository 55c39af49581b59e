"""Checkpoints over one base in the engine: there as soon as they are written, and ten of them in the memory of one."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import psutil
import torch

from inference_world import LocalWorld
from paddock.inference.engine import Generation, Model, Sampling
from paddock.inference.local import LocalEngine
from paddock.inference.local_models.language_model import Weights
from tiny_models import make_adapter, make_llama

TEN = range(10)
SAMPLING = Sampling(max_tokens=24)
USER = [{"role": "user", "content": "hello"}]


def published(world: LocalWorld, base: Path, number: int) -> Model:
    """A checkpoint as training leaves it: an adapter below the checkpoint root, a model that names it and its base."""
    make_adapter(base, world.data_dir.checkpoints / f"ten/epoch-{number}", seed=number)
    return Model(f"ten:epoch-{number}", "local", f"ten/epoch-{number}", job_id="ten", base_model=str(base))


def num_bytes(weights: Weights) -> int:
    """The memory of all tensors of a base and its adapters, shared ones counted once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*weights.model.parameters(), *weights.model.buffers())
    }
    return sum(storages.values())


def test_ten_adapters_take_the_memory_of_one_base_and_their_own(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden_size=64)
    weights = Weights(base, "cpu", torch.float32)
    of_base = num_bytes(weights)
    of_adapters = 0
    for number in TEN:
        folder = make_adapter(base, tmp_path / f"epoch-{number}", seed=number)
        weights.variant(folder)
        # On disk they are float32 too; a header stands before the tensors.
        of_adapters += (folder / "adapter_model.safetensors").stat().st_size
    assert of_base < num_bytes(weights) <= of_base + of_adapters
    assert len(weights.model.model.layers[0].self_attn.q_proj.lora_A) == 10


def test_the_engine_grows_by_the_adapters_alone(local_world: LocalWorld, tmp_path: Path) -> None:
    """A base of 30 MB and ten adapters of some 60 kB: ten bases would be 300 MB."""
    base = make_llama(tmp_path / "base", hidden_size=640, layers=2)
    models = [published(local_world, base, number) for number in TEN]
    plain = Model("plain", "local", str(base))
    local_world.ask(lambda engine: engine.chat(plain, USER, Sampling(max_tokens=2)))
    # One adapter brings what the libraries need for the first time.
    local_world.ask(lambda engine: engine.chat(models[0], USER, Sampling(max_tokens=2)))
    pid = local_world.host.pid
    assert pid is not None
    before = psutil.Process(pid).memory_info().rss
    for model in models:
        local_world.ask(lambda engine, model=model: engine.chat(model, USER, Sampling(max_tokens=2)))
    assert psutil.Process(pid).memory_info().rss - before < 20 * 2**20


def test_ten_checkpoints_at_once_each_say_what_they_say_alone(local_world: LocalWorld, tiny_llama: Path) -> None:
    models = [published(local_world, tiny_llama, number) for number in TEN]

    async def alone(engine: LocalEngine) -> list[Generation]:
        return [await engine.chat(model, USER, SAMPLING) for model in models]

    async def together(engine: LocalEngine) -> list[Generation]:
        return await asyncio.gather(*(engine.chat(model, USER, SAMPLING) for model in models * 3))

    said = [answer.text for answer in local_world.ask(alone)]
    assert len(set(said)) == 10
    assert [answer.text for answer in local_world.ask(together)] == said * 3


def test_a_checkpoint_answers_as_soon_as_it_is_there(local_world: LocalWorld, tiny_llama: Path) -> None:
    """The engine runs and holds the base; nothing is started again."""
    ready = published(local_world, tiny_llama, 90)
    shutil.rmtree(local_world.data_dir.checkpoints / "late", ignore_errors=True)
    local_world.ask(lambda engine: engine.chat(ready, USER, SAMPLING))
    pid = local_world.host.pid
    folder = make_adapter(tiny_llama, local_world.data_dir.checkpoints / "late/epoch-1", seed=91)
    late = Model("late:epoch-1", "local", "late/epoch-1", job_id="late", base_model=str(tiny_llama))
    assert folder.exists()
    started_at = time.monotonic()
    answer = local_world.ask(lambda engine: engine.chat(late, USER, SAMPLING))
    assert time.monotonic() - started_at < 2.0
    assert answer.num_generated_tokens is not None
    assert local_world.host.pid == pid


def test_a_short_answer_joins_those_that_run(local_world: LocalWorld) -> None:
    """A request that comes while long answers are made does not wait for their ends."""

    async def join(engine: LocalEngine) -> tuple[float, float]:
        samplings = [Sampling(max_tokens=480, seed=seed, temperature=1.0) for seed in range(7)]
        long = [asyncio.create_task(engine.complete(local_world.tiny, "abc", sampling)) for sampling in samplings]
        started_at = time.monotonic()
        await asyncio.sleep(0.05)
        await engine.complete(local_world.tiny, "abc", Sampling(max_tokens=2))
        short = time.monotonic() - started_at
        await asyncio.gather(*long)
        return short, time.monotonic() - started_at

    short, whole = local_world.ask(join)
    assert short < whole / 2

"""Two workers over gloo train one job: the same numbers as one, half of the weights each, the same bits after a stop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from paddock import wiring
from paddock.errors import InvalidRequestError, PaddockError
from paddock.inference.engine import Model
from paddock.jobs import states
from paddock.jobs.progress import StopRequestedError
from paddock.post_training import team
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, stop_at, submit, training

# Each job starts a process, which loads torch anew.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def two(resources: Resources) -> Iterator[Resources]:
    """The same server with two workers to a job."""
    two = wiring.build(resources.settings.model_copy(update={"training_workers": 2}))
    yield two
    two.database.close()


def _weights(resources: Resources, job_id: str) -> dict[str, torch.Tensor]:
    (file,) = (resources.checkpoints.root / resources.checkpoints.of_job(job_id)[-1].path).glob("*.safetensors")
    return load_file(file)


def _series(resources: Resources, job_id: str, name: str) -> list[float]:
    return [point[name] for point in resources.jobs.metrics(job_id) if name in point]


def _like_one(
    resources: Resources, two: Resources, make: Any, *, rel: float = 1e-4
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do a job with one worker and with two: losses, gradients and validation must be the same. Returns what each ran on."""
    one = run(resources, make("one"))
    both = run(two, make("two"))
    for name in ("loss", "grad_norm"):
        assert _series(two, "two", name) == pytest.approx(_series(resources, "one", name), rel=rel, abs=1e-6)
    first, second = (resources.checkpoints.of_job(job_id) for job_id in ("one", "two"))
    for expected, found in zip(first, second, strict=True):
        assert expected.metrics is not None
        assert found.metrics == pytest.approx(expected.metrics, rel=rel)
    expected, found = _weights(resources, "one"), _weights(resources, "two")
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.dtype) for name, t in expected.items()
    }
    assert one.resources is not None
    assert both.resources is not None
    assert (one.resources["num_workers"], both.resources["num_workers"]) == (1, 2)
    assert one.resources["num_tokens"] == both.resources["num_tokens"]
    assert one.resources["num_parameters"] == both.resources["num_parameters"]
    return one.resources, both.resources


def test_all_weights_are_split_and_come_together(resources: Resources, two: Resources, tmp_path: Path) -> None:
    """Tied embeddings; and batches of three and of one row, of which a worker has no share."""
    resources.inference.models.register(Model("tied", "local", str(make_llama(tmp_path / "tied", tied=True))))
    add_dataset(resources, "chats", chats(7))
    config = training("chats", gradient_accumulation_steps=2, validation_dataset_id="chats", max_validation_steps=-1)
    config["data_config"]["batch_size"] = 3
    efficiency = {"memory_efficient_fsdp_wrap": True}

    def make(job_id: str) -> dict[str, Any]:
        asked = config | ({"efficiency_config": efficiency} if job_id == "two" else {})
        return sft_request(job_id, asked, model="tied", algorithm_config=None)

    one, both = _like_one(resources, two, make)
    assert both["weight_bytes"] == pytest.approx(one["weight_bytes"] / 2, rel=0.02)
    assert both["gathered_weight_bytes"] == 0
    assert "lm_head.weight" not in _weights(resources, "two")
    # A model like any other, which one worker trains on.
    run(resources, sft_request("more", training("chats", n_epochs=1), model="two:epoch-2"))


def test_preferences_by_two(resources: Resources, two: Resources) -> None:
    """kto_pair's divergence is of both workers' pairs, and the first step stands at the reference to the last bit."""
    add_dataset(resources, "pairs", pairs(7))
    config = training("pairs", validation_dataset_id="pairs", packed=True, max_seq_len=64, dtype="bf16")
    config["data_config"]["batch_size"] = 3

    def make(job_id: str) -> dict[str, Any]:
        return dpo_request(job_id, "tiny", config, lora=LORA, loss_type="kto_pair")

    # One worker has its output layer and loss in one, which in bfloat16 rounds in other places.
    one, both = _like_one(resources, two, make, rel=2**-8)
    assert _series(two, "two", "reward_margin")[0] == 0.0
    assert _series(two, "two", "loss")[0] == pytest.approx(0.5, abs=1e-6)
    assert both["weight_bytes"] < one["weight_bytes"]
    # Embeddings and output layer, in bfloat16, stay whole from the forward to the backward pass.
    assert both["gathered_weight_bytes"] >= 2 * 2 * 261 * 32


def test_two_that_were_stopped_end_with_the_same_bits(resources: Resources, two: Resources) -> None:
    add_dataset(resources, "chats", chats(12))
    efficiency = {"enable_activation_checkpointing": True, "enable_activation_offloading": True}
    config = training("chats", efficiency_config=efficiency)
    algorithm = LORA | {"dropout": 0.2}
    run(two, sft_request("one", config, algorithm_config=algorithm))

    with pytest.raises(StopRequestedError):
        run(two, sft_request("two", config, algorithm_config=algorithm), on_start=stop_at(2))
    with resources.database.write() as connection:
        states.hand_back(connection, resources.database.now(), "two", 1)
    finished = run(two, sft_request("two", config, algorithm_config=algorithm))
    assert finished.resources is not None
    assert finished.resources["exact_resume"] is True
    assert finished.resources["offloaded_bytes"] > 0
    hashes = [[c.sha256 for c in resources.checkpoints.of_job(name)] for name in ("one", "two")]
    assert hashes[0] == hashes[1]


_CHILD = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from training_office import run
from paddock import wiring
from paddock.settings import Settings

def tell(progress):
    progress.report = lambda done, total, unit: print(done, flush=True)

run(wiring.build(Settings.model_validate_json(sys.argv[2])), json.loads(sys.argv[3]), on_start=tell)
"""


def test_the_others_end_with_the_first(two: Resources) -> None:
    """However it ends."""
    add_dataset(two, "chats", chats(40))
    request = sft_request("job", training("chats", n_epochs=100))
    arguments = [str(Path(__file__).parents[2]), two.settings.model_dump_json(), json.dumps(request)]
    first = subprocess.Popen(
        [sys.executable, "-c", _CHILD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "1\n"
    others = psutil.Process(first.pid).children()
    assert ["train-worker" in other.cmdline() for other in others] == [True]
    first.kill()
    first.stdout.close()
    first.wait()
    _, alive = psutil.wait_procs(others, timeout=30)
    assert alive == []


def test_a_worker_that_does_not_come_fails_the_job(two: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    add_dataset(two, "chats", chats(4))
    start = team.start_process
    monkeypatch.setattr(team, "start_process", lambda arguments, *more: start(["no-such-command"], *more))
    with pytest.raises(PaddockError, match="ended with exit code 2 before training began"):
        run(two, sft_request("job", training("chats")))


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        (
            {"efficiency_config": {"fsdp_cpu_offload": True}},
            "/training_config/efficiency_config/fsdp_cpu_offload",
            "GPU",
        ),
        ({"algorithm": LORA | {"quantize_base": True}}, "/algorithm_config/quantize_base", "trains in 2"),
        ({"algorithm": {"type": "QAT", "quantizer_name": "int4", "group_size": 16}}, "/algorithm_config/type", "in 2"),
    ],
)
def test_what_two_cannot_do_is_refused(two: Resources, change: dict[str, Any], pointer: str, words: str) -> None:
    add_dataset(two, "chats", chats(4))
    algorithm = change.pop("algorithm", LORA)
    with pytest.raises(InvalidRequestError, match=words) as refusal:
        submit(two, sft_request("job", training("chats", **change), algorithm_config=algorithm))
    assert [error.pointer for error in refusal.value.errors] == [pointer]

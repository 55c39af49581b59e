"""What a training is said to cost, against torch's own count of operations, and what it has cost."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from paddock.hub import read_config
from paddock.post_training import adapters, batches
from paddock.post_training import config as configs
from paddock.post_training.adapters import Trainee
from paddock.post_training.schemas import SupervisedFineTuneRequest
from paddock.post_training.source import Source
from paddock.post_training.team import Team
from paddock.post_training.tokens import IGNORED, TokenizedRow
from paddock.post_training.usage import Costs, matmul_rate
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, training


def _trainee(folder: Path, algorithm: dict[str, Any] | None) -> Trainee:
    request = SupervisedFineTuneRequest.model_validate(
        sft_request("x", training("chats"), model="tiny", algorithm_config=algorithm)
    )
    assert read_config(folder, "tiny")
    source = Source("tiny", str(folder), adapter=None)
    return adapters.load(
        source, folder, configs.of_supervised(request), Team(0, 1, torch.device("cpu")), scratch=folder
    )


def _row(length: int, num_labels: int, index: int = 0) -> TokenizedRow:
    ids = array("i", range(10, 10 + length))
    labels = array("i", [IGNORED] * (length - num_labels) + list(ids[length - num_labels :]))
    return TokenizedRow(index, ids, labels, is_truncated=False)


@pytest.mark.parametrize("algorithm", [None, LORA])
@pytest.mark.parametrize("tied", [False, True])
def test_operations_agree_with_torchs_own_count(tmp_path: Path, algorithm: dict[str, Any] | None, tied: bool) -> None:
    folder = make_llama(tmp_path / "model", hidden_size=64, tied=tied)
    trainee = _trainee(folder, algorithm)
    trainee.model.set_attn_implementation("eager")  # torch counts no fused attention on a CPU
    trainee = replace(trainee, attends_by_row=False)
    rows = [_row(96, 40), _row(96, 30, 1)]
    batch = batches.collate(rows, [(0,), (1,)], 0)
    with FlopCounterMode(display=False) as counter:
        log_probs, _ = trainee.log_probs(batch)
        (-log_probs.sum()).backward()
    # Adapters of four ranks in a model this small are not all that multiplies; nor need the first layer's inputs a gradient.
    assert Costs(trainee).of(rows) == pytest.approx(counter.get_total_flops(), rel=0.08)


def test_the_matmul_rate_is_one_that_a_machine_can_have() -> None:
    assert 1e8 < matmul_rate(torch.device("cpu"), torch.float32) < 1e16


def _resources(resources: Resources, request: dict[str, Any]) -> dict[str, Any]:
    used = run(resources, request).resources
    assert used is not None
    return used


def test_the_resources_of_a_job(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(48))
    used = _resources(resources, sft_request("job", training("chats")))
    assert (used["device"], used["num_workers"], used["num_threads"], used["dtype"]) == ("cpu", 1, 1, "float32")
    assert used["tokens_per_second"] == pytest.approx(used["num_tokens"] / used["training_seconds"], rel=0.01)
    rate = used["model_flops"] / used["training_seconds"]
    assert used["model_flops_utilisation"] == pytest.approx(rate / used["matmul_flops_per_second"], rel=0.02)
    assert 0 < used["model_flops_utilisation"] < 1
    assert used["wall_seconds"] > used["training_seconds"]
    assert used["remaining_seconds"] == 0.0
    # All rows twice, so the estimate is what came true.
    assert used["estimate"]["num_steps"] == 24
    assert used["estimate"]["num_tokens"] == used["num_tokens"]
    # More than the weights, the gradients and two moments of each.
    assert used["estimate"]["memory_bytes"] > 4 * used["num_parameters"] + 12 * used["num_trainable_parameters"]


def test_what_is_left_is_told_after_ten_steps(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(48))
    told: list[tuple[int, float | None]] = []

    def watch(progress: Any) -> None:
        progress.set_resources = lambda **values: told.append(
            (values["num_tokens"] > 0, values["remaining_seconds"], values["estimate"]["num_steps"])
        )

    run(resources, sft_request("job", training("chats", n_epochs=1)), on_start=watch)
    # Before the first step, after the tenth of twelve, at the end.
    assert [(has_begun, num_steps) for has_begun, _, num_steps in told] == [(False, 12), (True, 12), (True, 12)]
    assert told[0][1] is None
    assert told[1][1] > 0
    assert told[2][1] == 0


def test_packed_and_plain_rows_cost_the_same(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(12))
    plain = _resources(resources, sft_request("plain", training("chats")))
    packed = _resources(resources, sft_request("packed", training("chats", packed=True, max_seq_len=128)))
    assert packed["model_flops"] == plain["model_flops"]
    assert packed["num_tokens"] == plain["num_tokens"]


def test_pairs_count_both_answers(resources: Resources) -> None:
    add_dataset(resources, "pairs", pairs(8))
    used = _resources(resources, dpo_request("job", "tiny", training("pairs", n_epochs=1), lora=LORA))
    assert used["estimate"]["num_tokens"] == used["num_tokens"]
    assert used["model_flops_utilisation"] > 0

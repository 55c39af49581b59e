"""What a training is said to take of memory, against what autograd really keeps of its largest batch."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock.post_training import adapters, memory
from paddock.post_training import config as configs
from paddock.post_training.adapters import Trainee
from paddock.post_training.batches import collate
from paddock.post_training.schemas import SupervisedFineTuneRequest
from paddock.post_training.source import Source
from paddock.post_training.team import Team
from paddock.post_training.tokens import IGNORED, TokenizedRow
from tiny_models import make_llama
from training_office import LORA, sft_request, training

QAT = {"type": "QAT", "quantizer_name": "int8_dynamic_int4", "group_size": 16}
LENGTH, NUM_LABELS = 96, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("model"), hidden_size=64, layers=4)


def _trainee(folder: Path, algorithm: dict[str, Any] | None, **more: Any) -> Trainee:
    asked = sft_request("x", training("rows", **more), algorithm_config=algorithm)
    config = configs.of_supervised(SupervisedFineTuneRequest.model_validate(asked))
    team = Team(0, 1, torch.device("cpu"))
    return adapters.load(Source("tiny", str(folder), adapter=None), folder, config, team, scratch=folder)


def _row(index: int = 0) -> TokenizedRow:
    ids = array("i", range(10, 10 + LENGTH))
    return TokenizedRow(
        index, ids, array("i", [IGNORED] * (LENGTH - NUM_LABELS)) + ids[-NUM_LABELS:], is_truncated=False
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("algorithm", [None, LORA, LORA | {"use_dora": True}, QAT], ids=["full", "lora", "dora", "qat"])
def test_a_short_pass_tells_what_a_batch_keeps(folder: Path, algorithm: dict[str, Any] | None, dtype: str) -> None:
    trainee = _trainee(folder, algorithm, dtype=dtype)
    kept = memory.probe(trainee, _row())
    batch = collate([_row()] * 8, [(number,) for number in range(8)], 0)
    others, logits = memory.kept_bytes(trainee, batch)
    foretold = kept.once + 8 * (LENGTH * kept.per_place + NUM_LABELS * kept.per_label)
    # On a CPU, attention over short rows in bfloat16 keeps its squares.
    assert foretold == pytest.approx(others + logits, rel=0.25 if dtype == "bf16" else 0.1)
    assert kept.per_label == 261 * 4


def test_the_probe_leaves_no_trace(folder: Path) -> None:
    trainee = _trainee(folder, LORA | {"dropout": 0.5})
    trainee.model.train()
    before = torch.get_rng_state()
    memory.probe(trainee, _row())
    assert torch.equal(torch.get_rng_state(), before)
    assert trainee.model.training
    assert all(weight.grad is None for weight in trainee.trained.values())


def _peak(trainee: Trainee, *batches: int, optimizer_type: str = "adamw") -> int:
    """Of one step over batches of so many rows."""
    step = [[_row(number) for number in range(num_rows)] for num_rows in batches]
    return memory.peak_bytes(trainee, 0, [step], optimizer_type=optimizer_type)


def test_what_the_peak_grows_with(folder: Path) -> None:
    trainee = _trainee(folder, None)
    num_bytes = 4 * trainee.num_parameters
    # The optimiser's two moments are there while activations are; gradients come as those go.
    assert _peak(trainee, 64) - _peak(trainee, 64, optimizer_type="sgd") == 2 * num_bytes
    assert _peak(trainee, 64, 64) - _peak(trainee, 64) == num_bytes
    assert _peak(trainee, 64) > _peak(trainee, 32) > _peak(trainee, 1)
    # With few activations it is the optimiser's step.
    big = make_llama(folder / "big", hidden_size=512, layers=2)
    trainee = _trainee(big, None)
    assert _peak(trainee, 1) == 12 * trainee.num_parameters + memory._FIRST_PASS_BYTES["cpu"]


def test_what_is_not_kept_is_not_counted(folder: Path) -> None:
    plain = _trainee(folder, LORA)
    recomputing = replace(plain, recomputes=True)
    efficiency = {"enable_activation_offloading": True}
    offloading = _trainee(folder, LORA, efficiency_config=efficiency)
    first = memory._FIRST_PASS_BYTES["cpu"]
    assert _peak(offloading, 64) < _peak(recomputing, 64) < first + 0.6 * (_peak(plain, 64) - first)

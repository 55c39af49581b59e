"""The model in training: what of it is trained, in which type, and that short cuts change no number."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Model
from paddock.post_training import adapters, batches, config
from paddock.post_training.adapters import Trainee
from paddock.post_training.batches import Batch
from paddock.post_training.schemas import SupervisedFineTuneRequest
from paddock.post_training.source import Source
from paddock.post_training.team import Team
from paddock.post_training.tokens import IGNORED, TokenizedRow
from paddock.wiring import Resources
from tiny_models import make_llama
from training_office import LORA, add_dataset, chats, pairs, run, sft_request, training

ROWS = [
    TokenizedRow(index, array("i", ids), array("i", [IGNORED] * 3 + ids[3:]), is_truncated=False)
    for index, ids in enumerate(([7, 8, 9, 10, 11], [20, 21, 22, 23, 24, 25, 26], [30, 31, 32, 33]))
]
ALONE = Team(0, 1, torch.device("cpu"))


def _load(
    folder: Path, algorithm: dict[str, Any] | None, adapter: Path | None = None, **training_config: Any
) -> Trainee:
    request = sft_request("job", training("d", **training_config), algorithm_config=algorithm)
    asked = config.of_supervised(SupervisedFineTuneRequest.model_validate(request))
    torch.manual_seed(0)
    return adapters.load(Source("tiny", str(folder), adapter), folder, asked, ALONE, scratch=folder)


def _batch(*packs: tuple[int, ...]) -> Batch:
    return batches.collate(ROWS, packs, pad_id=0)


def _padded(trainee: Trainee) -> Trainee:
    """The same as on a GPU, or for a model that attends in its own way: batches with padding, all logits at once."""
    trainee.model.set_attn_implementation("sdpa")
    return replace(trainee, attends_by_row=False, fuses_head=False)


@pytest.mark.parametrize("is_padded", [False, True])
def test_log_probs_are_those_of_the_plain_model(tiny_llama: Path, is_padded: bool) -> None:
    """Rows joined or padded, and the output layer on chosen places alone, against each row by itself with all its logits."""
    trainee = _load(tiny_llama, None)
    assert (trainee.attends_by_row, trainee.fuses_head) == (True, True)
    trainee = _padded(trainee) if is_padded else trainee
    log_probs_N, is_target_BT = trainee.log_probs(_batch((0,), (1,), (2,)))
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama).double()
    expected = []
    for row in ROWS:
        log_probs = plain(torch.tensor([list(row.ids)])).logits[0].log_softmax(-1)
        expected += [log_probs[place - 1, row.ids[place]].item() for place in range(3, len(row))]
    assert log_probs_N.tolist() == pytest.approx(expected, abs=1e-5)
    assert is_target_BT.sum(dim=1).tolist() == [2, 4, 1]


def _gradients(trainee: Trainee, *parts: Batch) -> dict[str, torch.Tensor]:
    trainee.model.zero_grad()
    num = sum(part.num_labels for part in parts)
    for part in parts:
        (-trainee.log_probs(part)[0].sum() / num).backward()
    return {name: p.grad.clone() for name, p in trainee.trained.items() if p.grad is not None}


def test_the_same_rows_give_the_same_gradients_however_they_stand(tiny_llama: Path) -> None:
    """One batch, several accumulated, and one pack; with padding; and with activations computed anew."""
    trainee = _load(tiny_llama, None)
    expected = _gradients(trainee, _batch((0,), (1,), (2,)))
    recomputing = _load(tiny_llama, None, efficiency_config={"enable_activation_checkpointing": True})
    recomputing.model.train()
    padded = _padded(_load(tiny_llama, None))
    variants = {
        "padded": _gradients(padded, _batch((0,), (1,), (2,))),
        "packed and padded": _gradients(padded, _batch((2, 0), (1,))),
        "accumulated": _gradients(trainee, _batch((0,)), _batch((1,), (2,))),
        "packed": _gradients(trainee, _batch((0, 1, 2))),
        "packed in two": _gradients(trainee, _batch((2, 0), (1,))),
        "recomputed": _gradients(recomputing, _batch((0,), (1,), (2,))),
    }
    for variant, gradients in variants.items():
        assert gradients.keys() == expected.keys()
        for name, gradient in gradients.items():
            difference = (gradient - expected[name]).norm() / expected[name].norm()
            assert difference < 1e-5, f"{variant}: {name} is off by {difference}"
    # Recomputing is real: layers run again in the backward pass.
    calls: list[None] = []
    recomputing.model.model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(None))
    _gradients(recomputing, _batch((0,)))
    assert len(calls) == 2


def test_rows_that_see_each_other_are_noticed(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = _padded(_load(tiny_llama, None))
    adapters.check_packing(trainee, ROWS, [(0,), (1, 2)], pad_id=0)
    # Without positions that begin anew, the second row sees the first.
    plain = batches.collate
    monkeypatch.setattr(adapters, "collate", lambda *given: replace(plain(*given), positions_BT=None))
    with pytest.raises(InvalidRequestError, match="cannot be packed"):
        adapters.check_packing(trainee, ROWS, [(0,), (1, 2)], pad_id=0)
    adapters.check_packing(trainee, ROWS, [(0,), (1,)], pad_id=0)


@pytest.mark.parametrize(
    ("algorithm", "dtype", "frozen", "compute"),
    [
        (None, "bf16", None, torch.bfloat16),
        (None, "fp32", None, torch.float32),
        (LORA, "bf16", torch.bfloat16, torch.bfloat16),
        (LORA, "fp32", torch.float32, torch.float32),
        (LORA | {"use_dora": True}, "bf16", torch.bfloat16, torch.bfloat16),
    ],
)
def test_trained_weights_are_float32_always(
    tiny_llama: Path, algorithm: dict[str, Any] | None, dtype: str, frozen: torch.dtype | None, compute: torch.dtype
) -> None:
    trainee = _load(tiny_llama, algorithm, dtype=dtype)
    assert {p.dtype for p in trainee.trained.values()} == {torch.float32}
    others = {p.dtype for p in trainee.model.parameters() if not p.requires_grad}
    assert others == (set() if frozen is None else {frozen})
    log_probs_N, _ = trainee.log_probs(_batch((0,), (1,)))
    assert (log_probs_N.dtype, trainee.compute) == (torch.float32, compute)


@pytest.mark.parametrize("use_dora", [False, True])
def test_only_the_modules_that_were_asked_for_are_trained(tiny_llama: Path, use_dora: bool) -> None:
    algorithm = LORA | {"lora_attn_modules": ["q_proj"], "apply_lora_to_mlp": False, "use_dora": use_dora, "rank": 3}
    trainee = _load(tiny_llama, algorithm)
    assert all(".q_proj.lora_" in name for name in trainee.trained)
    assert any("magnitude" in name for name in trainee.trained) == use_dora
    assert {p.shape[0] for name, p in trainee.trained.items() if "lora_A" in name} == {3}
    (scaling,) = {m.scaling["default"] for m in trainee.model.modules() if isinstance(m, LoraLayer)}
    assert scaling == LORA["alpha"] / 3


def test_dropout_is_on_in_training_alone(tiny_llama: Path) -> None:
    trainee = _load(tiny_llama, LORA | {"dropout": 0.5})
    for name, parameter in trainee.trained.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    batch = _batch((0,), (1,))
    trainee.model.train()
    assert not torch.equal(trainee.log_probs(batch)[0], trainee.log_probs(batch)[0])
    trainee.model.eval()
    assert torch.equal(trainee.log_probs(batch)[0], trainee.log_probs(batch)[0])


def test_the_output_layer_has_an_adapter_where_it_is_its_own(tiny_llama: Path, tmp_path: Path) -> None:
    algorithm = LORA | {"apply_lora_to_output": True}
    assert any("lm_head.lora_A" in name for name in _load(tiny_llama, algorithm).trained)
    with pytest.raises(InvalidRequestError, match="tied to the embeddings"):
        _load(make_llama(tmp_path, tied=True), algorithm)


def test_an_adapter_is_trained_on_or_folded_in(resources: Resources, tiny_llama: Path) -> None:
    add_dataset(resources, "chats", chats(8))
    run(resources, sft_request("tune", training("chats", n_epochs=1)))
    (checkpoint,) = resources.checkpoints.of_job("tune")
    folder = resources.checkpoints.root / checkpoint.path
    batch = _batch((0,), (1,), (2,))
    continued, folded = _load(tiny_llama, LORA, folder), _load(tiny_llama, None, folder)
    assert continued.is_adapter
    assert not folded.is_adapter
    assert all(p.requires_grad for p in folded.model.parameters())
    torch.testing.assert_close(continued.log_probs(batch)[0], folded.log_probs(batch)[0], rtol=0, atol=1e-5)
    assert not torch.allclose(folded.log_probs(batch)[0], _load(tiny_llama, None).log_probs(batch)[0], atol=1e-3)


def test_a_tied_model_trained_whole_is_one_again(resources: Resources, tmp_path: Path) -> None:
    resources.inference.models.register(Model("tied", "local", str(make_llama(tmp_path / "tied", tied=True))))
    add_dataset(resources, "chats", chats(8))
    run(resources, sft_request("job", training("chats", n_epochs=1), model="tied", algorithm_config=None))
    (checkpoint,) = resources.checkpoints.of_job("job")
    folder = resources.checkpoints.root / checkpoint.path
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_an_adapter_goes_on_only_in_its_own_shape(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(8))
    add_dataset(resources, "pairs", pairs(4))
    run(resources, sft_request("tune", training("chats", n_epochs=1)))
    run(resources, sft_request("more", training("chats", n_epochs=1), model="tune:epoch-1"))
    assert resources.inference.find("more:epoch-1").base_model == resources.inference.find("tune:epoch-1").base_model
    for change in ({"rank": 8}, {"alpha": 9}, {"apply_lora_to_mlp": False}, {"use_dora": True}):
        request = sft_request("other", training("chats"), model="tune:epoch-1", algorithm_config=LORA | change)
        with pytest.raises(InvalidRequestError, match="goes on only in its own shape"):
            run(resources, request)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = make_llama(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequestError, match=r"lack the weights model\.norm\.weight"):
        _load(folder, None)

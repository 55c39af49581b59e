"""Rounded weights: a frozen base in four bits under an adapter, and quantisation-aware training of all weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from safetensors import safe_open
from torchao.quantization import IntxUnpackedToInt8Tensor
from torchao.quantization.qat.linear import FakeQuantizedLinear
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Model, Sampling
from paddock.inference.engine_messages import CompletionRequest, GenerationAnswer, LocalModel
from paddock.inference.local_models.loading import LoadedModels
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from paddock.post_training import adapters, config, machine, qat, quantized_base
from paddock.post_training.adapters import Trainee
from paddock.post_training.config import QUANTIZERS, Qat
from paddock.post_training.schemas import SupervisedFineTuneRequest
from paddock.post_training.source import Source
from paddock.post_training.team import Team
from paddock.settings import Settings
from paddock.wiring import Resources
from tiny_models import make_llama, save_byte_tokenizer
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, submit, training

IDS = torch.tensor([[7, 8, 9, 10, 11, 12]])
CPU = torch.device("cpu")
QLORA = LORA | {"quantize_base": True}
ALONE = Team(0, 1, torch.device("cpu"))


def _qat(quantizer_name: str = "int8_dynamic_int4", group_size: int = 16) -> dict[str, Any]:
    return {"type": "QAT", "quantizer_name": quantizer_name, "group_size": group_size}


def _load(folder: Path, algorithm: dict[str, Any], **training_config: Any) -> Trainee:
    request = sft_request("job", training("d", **training_config), algorithm_config=algorithm)
    asked = config.of_supervised(SupervisedFineTuneRequest.model_validate(request))
    torch.manual_seed(0)
    return adapters.load(Source("tiny", str(folder), None), folder, asked, ALONE, scratch=folder)


def _folder(resources: Resources, job_id: str) -> Path:
    return resources.checkpoints.root / resources.checkpoints.of_job(job_id)[-1].path


def _in_four_bits(folder: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, **quantized_base.loading(torch.float32, CPU)
    )
    quantized_base.keep_as_loaded(model)
    return model


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_base_in_four_bits_is_small_and_stays_as_it_was(tmp_path: Path, use_dora: bool) -> None:
    folder = make_llama(tmp_path, hidden_size=64)
    trainee = _load(folder, QLORA | {"use_dora": use_dora})
    plain = _load(folder, LORA | {"use_dora": use_dora})
    layers = [m for m in trainee.model.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 2 * 7
    # Half a byte a weight, against four bytes.
    weights = sum(layer.weight.quant_state.shape.numel() for layer in layers)
    assert sum(layer.weight.numel() for layer in layers) == weights // 2
    assert plain.num_weight_bytes - trainee.num_weight_bytes == 4 * weights - weights // 2
    assert trainee.num_parameters == plain.num_parameters
    assert {p.dtype for p in trainee.trained.values()} == {torch.float32}
    # A pass without gradients, as in a validation, leaves the weights alone.
    before = [layer.weight.detach().clone() for layer in layers]
    trainee.model.eval()
    with torch.no_grad():
        first = trainee.model(IDS).logits
    trainee.model.train()
    assert torch.equal(trainee.model(IDS).logits, first)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, before, strict=True))


def test_an_adapter_on_four_bits_is_what_plain_peft_loads(resources: Resources, tiny_llama: Path) -> None:
    add_dataset(resources, "chats", chats(8))
    config_ = training("chats", n_epochs=1, validation_dataset_id="chats", max_validation_steps=-1)
    job = run(resources, sft_request("tune", config_, algorithm_config=QLORA))
    plain = run(resources, sft_request("plain", config_))
    assert job.resources is not None
    assert plain.resources is not None
    assert job.resources["weight_bytes"] < plain.resources["weight_bytes"]
    (tuned,), (other,) = (resources.checkpoints.of_job(name) for name in ("tune", "plain"))
    assert tuned.metrics is not None
    assert tuned.metrics != other.metrics
    folder = _folder(resources, "tune")
    with torch.no_grad():
        trained = PeftModel.from_pretrained(_in_four_bits(tiny_llama), folder)(IDS).logits
        exact = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), folder)
        # On the exact base it is a little off, merged or not.
        logits = exact(IDS).logits
        assert 1e-3 < (logits - trained).abs().max() < 0.5
        torch.testing.assert_close(exact.merge_and_unload()(IDS).logits, logits, rtol=0, atol=1e-5)
    # It goes on, on four bits again, also in preference optimisation.
    add_dataset(resources, "pairs", pairs(4))
    run(resources, sft_request("more", config_, model="tune:epoch-1", algorithm_config=QLORA))
    run(resources, dpo_request("prefer", "tune:epoch-1", training("pairs"), lora=QLORA))
    assert next(iter(resources.jobs.metrics("prefer")))["reward_margin"] == 0.0


@pytest.mark.parametrize("name", ["int8_dynamic_int4", "int4", "int8"])
def test_what_is_saved_computes_as_what_was_trained(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    trainee = _load(tiny_llama, _qat(name))
    assert not trainee.is_adapter
    layers = [m for m in trainee.model.modules() if isinstance(m, FakeQuantizedLinear)]
    assert len(layers) == 2 * 7
    with torch.no_grad():
        for parameter in trainee.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        logits = trainee.model(IDS).logits
        exact = [p.clone() for p in trainee.model.parameters()]
        converted = qat.converted(trainee.model, Qat(name, 16))
        assert torch.equal(converted(IDS).logits, logits)
        qat.save(trainee.model, Qat(name, 16), tmp_path)
        # Plain transformers, from a safetensors file, gives the very same numbers.
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
        assert isinstance(loaded.model.layers[1].mlp.down_proj.weight, IntxUnpackedToInt8Tensor)
        assert torch.equal(loaded(IDS).logits, logits)
    assert all(torch.equal(one, other) for one, other in zip(exact, trainee.model.parameters(), strict=True))


def test_quantisation_aware_training_learns_the_rounded_model(resources: Resources, tmp_path: Path) -> None:
    add_dataset(resources, "chats", chats(8))
    series, files = {}, {}
    requests = {name: _qat(name) for name in ("int8_dynamic_int4", "int4", "int8")}
    requests |= {"alias": _qat("Int4WeightOnlyQATQuantizer"), "wide": _qat("int4", group_size=32)}
    for name, algorithm in requests.items():
        config_ = training("chats", validation_dataset_id="chats", max_validation_steps=-1)
        run(resources, sft_request(name, config_, algorithm_config=algorithm))
        series[name] = [point["loss"] for point in resources.jobs.metrics(name) if "loss" in point]
        with safe_open(_folder(resources, name) / "model.safetensors", framework="pt") as file:
            files[name] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert series[name][-1] < series[name][0]
        assert resources.inference.find(f"{name}:epoch-2").base_model is None
    assert series["alias"] == series["int4"]
    assert len({tuple(losses) for losses in series.values()}) == 4
    key = "model.layers.0.mlp.up_proj._weight_"
    for name, (lowest, groups) in {"int4": (-8, 2), "wide": (-8, 1), "int8": (-128, 2)}.items():
        weights, scales = files[name][f"{key}qdata"], files[name][f"{key}scale"]
        assert weights.dtype is torch.int8
        assert lowest <= weights.min()
        assert weights.abs().max() > (8 if name == "int8" else 4)
        assert scales.shape == (64, groups)


def test_rounded_weights_answer_and_cannot_be_trained_on(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(4))
    run(resources, sft_request("round", training("chats", n_epochs=1), algorithm_config=_qat()))
    folder = _folder(resources, "round")
    engine = LoadedModels(Settings(device="cpu"))
    # On a GPU the engine computes in bfloat16, which these weights are not made for.
    engine._dtype = torch.bfloat16
    files = ModelFiles(folder, json.loads((folder / "config.json").read_text()), None)
    work = Work(CompletionRequest(LocalModel("round", str(folder)), "say 1", Sampling(max_tokens=5)), files)
    engine.language_model("round", files).generate([work], lambda _limit: [], max_rows=1)
    result = work.answer.result(timeout=0)
    assert isinstance(result, GenerationAnswer)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("say 1", return_tensors="pt", add_special_tokens=False).input_ids
    plain = AutoModelForCausalLM.from_pretrained(folder).generate(ids, max_new_tokens=5, do_sample=False)
    assert result.text == tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)
    with pytest.raises(InvalidRequestError, match="is quantised") as refusal:
        submit(resources, sft_request("more", training("chats"), model="round:epoch-1"))
    assert [error.pointer for error in refusal.value.errors] == ["/model"]


@pytest.mark.parametrize(
    ("algorithm", "pointer", "words"),
    [
        (_qat("int3"), "quantizer_name", "one of int8_dynamic_int4, "),
        (_qat(group_size=1), "group_size", "between 2"),
        (_qat(group_size=48), "group_size", "must divide the inputs of every linear layer: 32, 64"),
        (_qat(group_size=64), "group_size", "layer: 32"),
    ],
)
def test_what_cannot_be_rounded_is_refused(
    resources: Resources, algorithm: dict[str, Any], pointer: str, words: str
) -> None:
    add_dataset(resources, "chats", chats(4))
    with pytest.raises(InvalidRequestError, match=words) as refusal:
        submit(resources, sft_request("job", training("chats"), algorithm_config=algorithm))
    assert [error.pointer for error in refusal.value.errors] == [f"/algorithm_config/{pointer}"]


@pytest.mark.parametrize(
    ("algorithm", "pointer", "package"),
    [(QLORA, "quantize_base", "bitsandbytes"), (_qat(), "type", "torchao")],
)
def test_a_package_that_is_missing_is_named(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, algorithm: dict[str, Any], pointer: str, package: str
) -> None:
    add_dataset(resources, "chats", chats(4))
    find_spec = machine.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(InvalidRequestError, match=rf"{package} is not installed here: pip install") as refusal:
        submit(resources, sft_request("job", training("chats"), algorithm_config=algorithm))
    assert [error.pointer for error in refusal.value.errors] == [f"/algorithm_config/{pointer}"]


def test_layers_of_another_kind(resources: Resources, tmp_path: Path) -> None:
    """GPT-2's layers are none of torch's linear ones: bitsandbytes rounds them too, torchao does not."""
    folder = tmp_path / "gpt2"
    ends = {"bos_token_id": None, "eos_token_id": 1}
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=261, n_positions=128, n_embd=32, n_layer=1, n_head=2, **ends))
    gpt.save_pretrained(folder)
    save_byte_tokenizer(folder)
    resources.inference.models.register(Model("gpt2", "local", str(folder)))
    add_dataset(resources, "chats", chats(4))
    with pytest.raises(InvalidRequestError, match="can be quantised") as refusal:
        submit(resources, sft_request("qat", training("chats"), model="gpt2", algorithm_config=_qat()))
    assert [error.pointer for error in refusal.value.errors] == ["/algorithm_config"]
    algorithm = QLORA | {"lora_attn_modules": ["c_attn"], "apply_lora_to_mlp": False}
    run(resources, sft_request("tune", training("chats"), model="gpt2", algorithm_config=algorithm))
    exact = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), _folder(resources, "tune"))
    with torch.no_grad():
        logits = exact(IDS).logits
        trained = PeftModel.from_pretrained(_in_four_bits(folder), _folder(resources, "tune"))(IDS).logits
        assert (logits - trained).abs().max() < 0.5
        torch.testing.assert_close(exact.merge_and_unload()(IDS).logits, logits, rtol=0, atol=1e-5)


def test_every_quantizer_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "post-training.md").read_text()
    assert [name for name in QUANTIZERS if f"`{name}`" not in text] == []

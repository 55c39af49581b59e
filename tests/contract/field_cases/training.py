"""The fields that make a training job: what each changes in the losses, the rates, the weights and the files."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field
from paddock import wiring
from paddock.errors import InvalidRequestError
from paddock.jobs.job import Job
from training_office import LORA, chats, dpo_request, pairs, run, sft_request, training

SFT, DPO = "supervised_fine_tune", "preference_optimize"
JOBS = "/v1alpha/post-training"
PATHS = {SFT: f"{JOBS}/supervised-fine-tune", DPO: f"{JOBS}/preference-optimize"}


@dataclass(frozen=True)
class Trained:
    """What a job left behind. `folder` is its last checkpoint's."""

    job_uuid: str
    series: list[dict[str, Any]]
    resources: dict[str, Any]
    checkpoints: list[dict[str, Any]]
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.checkpoints[-1]["path"]

    @property
    def metrics(self) -> dict[str, float]:
        measured: dict[str, float] = self.checkpoints[-1]["training_metrics"]
        return measured

    def points(self, name: str) -> list[float]:
        return [point[name] for point in self.series if name in point]

    def tensors(self, part: str = "") -> dict[str, Tensor]:
        """The weights that were saved, of names with `part` in them."""
        from safetensors.torch import load_file

        (file,) = self.folder.glob("*.safetensors")
        return {name: tensor for name, tensor in load_file(file).items() if part in name}

    def read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content


_DATASETS: dict[tuple[int, str], str] = {}
_TRAINED: dict[tuple[int, str], Trained] = {}


def _dataset(lab: Lab, rows: list[dict[str, Any]]) -> str:
    """The id of these rows; the same rows are registered once."""
    key = (id(lab), json.dumps(rows))
    if key not in _DATASETS:
        _DATASETS[key] = lab.add_dataset(rows, purpose="post-training/messages")
    return _DATASETS[key]


def _rows(lab: Lab, operation: str, count: int = 8) -> str:
    return _dataset(lab, chats(count) if operation == SFT else pairs(count))


def _request(lab: Lab, operation: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Eight rows in four steps, in their order, a new adapter on the tiny model; `changes` are by dotted path."""
    config = training(_rows(lab, operation), n_epochs=1)
    config["data_config"] |= {"batch_size": 2, "shuffle": False}
    request = sft_request("", config) if operation == SFT else dpo_request("", "tiny", config, lora=LORA)
    request = copy.deepcopy(request)
    for path, value in changes.items():
        inner = request
        *folders, name = path.split(".")
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return request


def train(lab: Lab, operation: str, **changes: Any) -> Trained:
    """Do a job with these fields set (`__` for a dot below `training_config`); the same job is done once."""
    return _train(lab, operation, {f"training_config.{name.replace('__', '.')}": v for name, v in changes.items()})


def _train(lab: Lab, operation: str, changes: dict[str, Any]) -> Trained:
    request = _request(lab, operation, changes)
    key = (id(lab), json.dumps(request))
    if key not in _TRAINED:
        if not request["job_uuid"]:
            request["job_uuid"] = lab.new_id("trained")
        _TRAINED[key] = _do(lab, operation, request)
    return _TRAINED[key]


def _do(lab: Lab, operation: str, request: dict[str, Any]) -> Trained:
    job_uuid = request["job_uuid"]
    assert lab.call("POST", PATHS[operation], request) == {"job_uuid": job_uuid}
    assert lab.run_job(job_uuid).error is None
    status = lab.call("GET", f"{JOBS}/job/status", job_uuid=job_uuid)
    assert status["status"] == "completed"
    return Trained(
        job_uuid=job_uuid,
        series=list(lab.resources.jobs.metrics(job_uuid)),
        resources=status["resources_allocated"],
        checkpoints=status["checkpoints"],
        root=lab.resources.checkpoints.root,
    )


def _refusal(lab: Lab, operation: str, **changes: Any) -> tuple[str, str]:
    paths = {f"training_config.{name.replace('__', '.')}": value for name, value in changes.items()}
    request = _request(lab, operation, paths) | {"job_uuid": lab.new_id("refused")}
    return lab.refusal("POST", PATHS[operation], request)


def _other_model(lab: Lab) -> str:
    """Another tiny model's id."""
    from tiny_models import make_llama

    folder = lab.folder / "other-tiny"
    if not folder.exists():
        folder.mkdir(parents=True)
        make_llama(folder, seed=1)
        body = {"model_id": "other-tiny", "provider_id": "local", "provider_model_id": str(folder)}
        from paddock.inference.registration import register_entry

        register_entry(lab.resources.inference, body)
    return "other-tiny"


def _by_sgd(lab: Lab, operation: str, **changes: Any) -> Trained:
    """One step of plain gradient descent, nothing clipped."""
    optimizer = {"optimizer_type": "sgd", "lr": 0.5, "weight_decay": 0.0, "num_warmup_steps": 0}
    return train(
        lab, operation, **{"max_steps_per_epoch": 1, "max_grad_norm": None, "optimizer_config": optimizer} | changes
    )


# The job and its model


@field("supervised_fine_tune job_uuid string", operation=SFT)
@field("preference_optimize job_uuid string", operation=DPO)
def job_uuid(lab: Lab, operation: str) -> None:
    for name in (lab.new_id("team/mine"), lab.new_id("team/mine")):
        trained = _train(lab, operation, {"job_uuid": name})
        assert [checkpoint["identifier"] for checkpoint in trained.checkpoints] == [f"{name}:epoch-1"]
        assert trained.read("training_request.json")["request"]["job_uuid"] == name
        # The same again is the same job: nothing waits to be done.
        again = _request(lab, operation, {"job_uuid": name})
        assert lab.call("POST", PATHS[operation], again) == {"job_uuid": name}
        assert lab.resources.jobs.get(name).attempt == 1


@field("supervised_fine_tune model string", operation=SFT, name="model")
@field("preference_optimize finetuned_model string", operation=DPO, name="finetuned_model")
def model(lab: Lab, operation: str, name: str) -> None:
    tiny, other = (_train(lab, operation, {name: model_id}) for model_id in ("tiny", _other_model(lab)))
    bases = [trained.read("adapter_config.json")["base_model_name_or_path"] for trained in (tiny, other)]
    assert bases == [str(lab.tiny_llama), str(lab.folder / "other-tiny")]
    assert tiny.points("grad_norm") != other.points("grad_norm")
    # A checkpoint's adapter is trained on.
    more = _train(lab, operation, {name: f"{tiny.job_uuid}:epoch-1"})
    assert more.read("adapter_config.json")["base_model_name_or_path"] == str(lab.tiny_llama)
    assert more.points("grad_norm")[0] != tiny.points("grad_norm")[0]


@field("supervised_fine_tune checkpoint_dir string")
def checkpoint_dir(lab: Lab) -> None:
    for folder in ("team a/first", "team b"):
        trained = _train(lab, SFT, {"checkpoint_dir": folder})
        assert trained.checkpoints[0]["path"].startswith(f"{folder}/")
        assert trained.folder.is_relative_to(trained.root / folder)
        assert (trained.folder / "adapter_model.safetensors").exists()


# Steps


@field("supervised_fine_tune training_config.n_epochs integer", operation=SFT)
@field("preference_optimize training_config.n_epochs integer", operation=DPO)
def n_epochs(lab: Lab, operation: str) -> None:
    for count in (1, 2):
        trained = train(lab, operation, n_epochs=count)
        assert [checkpoint["epoch"] for checkpoint in trained.checkpoints] == list(range(1, count + 1))
        assert len(trained.points("loss")) == 4 * count


@field("supervised_fine_tune training_config.max_steps_per_epoch integer", operation=SFT)
@field("preference_optimize training_config.max_steps_per_epoch integer", operation=DPO)
def max_steps_per_epoch(lab: Lab, operation: str) -> None:
    for count in (1, 3):
        assert len(train(lab, operation, max_steps_per_epoch=count).points("loss")) == count


@field("supervised_fine_tune training_config.gradient_accumulation_steps integer", operation=SFT)
@field("preference_optimize training_config.gradient_accumulation_steps integer", operation=DPO)
def gradient_accumulation_steps(lab: Lab, operation: str) -> None:
    plain, accumulated = train(lab, operation), train(lab, operation, gradient_accumulation_steps=2)
    assert (len(plain.points("loss")), len(accumulated.points("loss"))) == (4, 2)
    whole = train(lab, operation, data_config__batch_size=4)
    assert accumulated.points("loss") == pytest.approx(whole.points("loss"), rel=1e-5)
    assert accumulated.points("grad_norm") == pytest.approx(whole.points("grad_norm"), rel=1e-4)


@field("supervised_fine_tune training_config.data_config.batch_size integer", operation=SFT)
@field("preference_optimize training_config.data_config.batch_size integer", operation=DPO)
def batch_size(lab: Lab, operation: str) -> None:
    for size, num_steps in ((2, 4), (3, 3)):
        trained = train(lab, operation, data_config__batch_size=size)
        assert len(trained.points("loss")) == num_steps
        assert trained.resources["num_tokens"] == train(lab, operation).resources["num_tokens"]


@field("supervised_fine_tune training_config.max_validation_steps integer", operation=SFT)
@field("preference_optimize training_config.max_validation_steps integer", operation=DPO)
def max_validation_steps(lab: Lab, operation: str) -> None:
    """Two batches of two rows are the first four."""
    some, whole, first = (
        train(
            lab, operation, data_config__validation_dataset_id=_rows(lab, operation, count), max_validation_steps=steps
        )
        for count, steps in ((8, 2), (8, -1), (4, -1))
    )
    assert some.metrics["validation_loss"] == first.metrics["validation_loss"]
    assert some.metrics["validation_loss"] != whole.metrics["validation_loss"]


# Data


@field("supervised_fine_tune training_config.data_config.dataset_id string", operation=SFT)
@field("preference_optimize training_config.data_config.dataset_id string", operation=DPO)
def dataset_id(lab: Lab, operation: str) -> None:
    tokens = {}
    for count in (6, 8):
        trained = train(lab, operation, data_config__dataset_id=_rows(lab, operation, count))
        (read,) = trained.read("training_request.json")["datasets"]
        assert (read["dataset_id"], read["num_rows"]) == (_rows(lab, operation, count), count)
        assert len(trained.points("loss")) == count / 2
        tokens[count] = trained.resources["num_tokens"]
    assert tokens[6] < tokens[8]


@field("supervised_fine_tune training_config.data_config.validation_dataset_id string", operation=SFT)
@field("preference_optimize training_config.data_config.validation_dataset_id string", operation=DPO)
def validation_dataset_id(lab: Lab, operation: str) -> None:
    none, some, others = (
        train(lab, operation, data_config__validation_dataset_id=dataset, max_validation_steps=-1)
        for dataset in (None, _rows(lab, operation, 3), _rows(lab, operation, 5))
    )
    assert none.metrics is None
    assert some.metrics["validation_loss"] != others.metrics["validation_loss"]
    assert some.metrics["train_loss"] == others.metrics["train_loss"]


@field("supervised_fine_tune training_config.data_config.shuffle boolean", operation=SFT)
@field("preference_optimize training_config.data_config.shuffle boolean", operation=DPO)
def shuffle(lab: Lab, operation: str) -> None:
    """With weights that hardly move, a step's gradient tells which rows it met."""
    optimizer = {"optimizer_type": "sgd", "lr": 1e-12, "weight_decay": 0.0, "num_warmup_steps": 0}
    norms = {}
    for shuffled in (False, True):
        trained = train(lab, operation, n_epochs=2, optimizer_config=optimizer, data_config__shuffle=shuffled)
        norms[shuffled] = trained.points("grad_norm")
    assert norms[False][:4] == pytest.approx(norms[False][4:], rel=1e-6)
    assert norms[True][:4] != pytest.approx(norms[True][4:], rel=1e-3)
    assert norms[True][:4] != pytest.approx(norms[False][:4], rel=1e-3)


_TURNS = [("user", "say 1"), ("assistant", "one"), ("user", "and 2"), ("assistant", "two it is")]


def _turns(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@field("supervised_fine_tune training_config.data_config.data_format=instruct enum", operation=SFT, name="instruct")
@field("supervised_fine_tune training_config.data_config.data_format=dialog enum", operation=SFT, name="dialog")
@field("preference_optimize training_config.data_config.data_format=instruct enum", operation=DPO, name="instruct")
@field("preference_optimize training_config.data_config.data_format=dialog enum", operation=DPO, name="dialog")
def data_format(lab: Lab, operation: str, name: str) -> None:
    """`instruct` learns the last answer alone, `dialog` every turn of the assistant after the prompt."""
    if operation == SFT:
        rows = [{"messages": _turns(*_TURNS)}]
        last_alone = [{"prompt": _turns(*_TURNS[:3]), "answer": _TURNS[3][1]}]
    else:
        rejected = _turns(("assistant", "eins"), *_TURNS[2:3], ("assistant", "zwei"))
        rows = [{"prompt": "say 1", "chosen": _turns(*_TURNS[1:]), "rejected": rejected}]
        # The same answers, where the turn before belongs to the prompt: as that differs, chosen is compared with itself.
        last_alone = []
    trained = {
        kind: train(
            lab,
            operation,
            data_config__data_format=kind,
            data_config__dataset_id=_dataset(lab, rows),
            data_config__validation_dataset_id=_dataset(lab, rows),
        )
        for kind in ("instruct", "dialog")
    }
    one, other = trained[name], trained["dialog" if name == "instruct" else "instruct"]
    assert one.resources["num_tokens"] == other.resources["num_tokens"]
    assert one.points("grad_norm")[0] != pytest.approx(other.points("grad_norm")[0], rel=1e-3)
    assert one.metrics["perplexity"] != pytest.approx(other.metrics["perplexity"], rel=1e-3)
    if name == "instruct" and last_alone:
        spelt_out = train(
            lab, operation, data_config__data_format=name, data_config__dataset_id=_dataset(lab, last_alone)
        )
        assert spelt_out.points("loss") == one.points("loss")


@field("supervised_fine_tune training_config.data_config.packed boolean", operation=SFT)
@field("preference_optimize training_config.data_config.packed boolean", operation=DPO)
def packed(lab: Lab, operation: str) -> None:
    """Eight rows or pairs share one sequence: one step, which is that of one large batch."""
    shared = train(lab, operation, data_config__packed=True, max_seq_len=512)
    whole = train(lab, operation, data_config__batch_size=8)
    assert (len(train(lab, operation).points("loss")), len(shared.points("loss"))) == (4, 1)
    assert shared.points("loss") == pytest.approx(whole.points("loss"), abs=1e-6)
    assert shared.points("grad_norm") == pytest.approx(whole.points("grad_norm"), rel=1e-5)


@field("supervised_fine_tune training_config.data_config.train_on_input boolean", operation=SFT)
@field("preference_optimize training_config.data_config.train_on_input boolean", operation=DPO)
def train_on_input(lab: Lab, operation: str) -> None:
    """Prompts are learnt too; in preferences by kto_pair, which weighs each answer by itself, with the prompt before it."""
    loss = {} if operation == SFT else {"algorithm_config.loss_type": "kto_pair"}
    answers, everything = (
        _train(
            lab,
            operation,
            loss
            | {
                "training_config.data_config.train_on_input": value,
                "training_config.data_config.validation_dataset_id": _rows(lab, operation),
            },
        )
        for value in (False, True)
    )
    assert answers.points("loss")[1] != pytest.approx(everything.points("loss")[1], rel=1e-4)
    # Many more tokens stand behind the perplexity, and the prompts' are other ones.
    assert answers.metrics["perplexity"] != pytest.approx(everything.metrics["perplexity"], rel=1e-3)


# The optimiser


def _optimizer(**changes: Any) -> dict[str, Any]:
    return {"optimizer_type": "adamw", "lr": 0.01, "weight_decay": 0.0, "num_warmup_steps": 0} | changes


@field("supervised_fine_tune training_config.optimizer_config.optimizer_type=adam enum", operation=SFT, name="adam")
@field("supervised_fine_tune training_config.optimizer_config.optimizer_type=adamw enum", operation=SFT, name="adamw")
@field("supervised_fine_tune training_config.optimizer_config.optimizer_type=sgd enum", operation=SFT, name="sgd")
@field("preference_optimize training_config.optimizer_config.optimizer_type=adam enum", operation=DPO, name="adam")
@field("preference_optimize training_config.optimizer_config.optimizer_type=adamw enum", operation=DPO, name="adamw")
@field("preference_optimize training_config.optimizer_config.optimizer_type=sgd enum", operation=DPO, name="sgd")
def optimizer_type(lab: Lab, operation: str, name: str) -> None:
    """What one step makes of an adapter whose B is 0, and whose A therefore has no gradient of the loss."""
    before = _by_sgd(lab, operation).tensors("lora_A")
    changes = _optimizer(optimizer_type=name, weight_decay=0.1)
    trained = _by_sgd(lab, operation, optimizer_config=changes)
    for key, weight in trained.tensors("lora_A").items():
        if name == "adamw":  # decays by itself
            expected = before[key] * (1 - 0.01 * 0.1)
        elif name == "adam":  # the decay is a gradient, whose size does not count at the first step
            expected = before[key] - 0.01 * before[key].sign()
        else:
            expected = before[key] - 0.01 * 0.1 * before[key]
        assert (weight - expected).abs().max() < (1e-4 if name == "adam" else 1e-7)
    moved = max(weight.abs().max().item() for weight in trained.tensors("lora_B").values())
    assert (moved == pytest.approx(0.01, rel=0.01)) == (name != "sgd")
    norm = math.sqrt(sum(weight.square().sum().item() for weight in trained.tensors("lora_B").values()))
    assert (norm == pytest.approx(0.01 * trained.points("grad_norm")[0], rel=1e-4)) == (name == "sgd")


@field("supervised_fine_tune training_config.optimizer_config.lr number", operation=SFT)
@field("preference_optimize training_config.optimizer_config.lr number", operation=DPO)
def lr(lab: Lab, operation: str) -> None:
    small, large = (
        _by_sgd(lab, operation, optimizer_config=_optimizer(optimizer_type="sgd", lr=rate)) for rate in (0.5, 1.0)
    )
    assert (small.points("lr"), large.points("lr")) == ([0.5], [1.0])
    steps = large.tensors("lora_B")
    assert all((steps[key] - 2 * step).abs().max() < 1e-6 for key, step in small.tensors("lora_B").items())


@field("supervised_fine_tune training_config.optimizer_config.weight_decay number", operation=SFT)
@field("preference_optimize training_config.optimizer_config.weight_decay number", operation=DPO)
def weight_decay(lab: Lab, operation: str) -> None:
    none, some = (_by_sgd(lab, operation, optimizer_config=_optimizer(weight_decay=decay)) for decay in (0.0, 0.2))
    decayed = some.tensors("lora_A")
    for key, weight in none.tensors("lora_A").items():
        assert (decayed[key] - weight * (1 - 0.01 * 0.2)).abs().max() < 1e-7
    assert sum(weight.abs().sum().item() for weight in decayed.values()) > 0


@field("supervised_fine_tune training_config.optimizer_config.num_warmup_steps integer", operation=SFT)
@field("preference_optimize training_config.optimizer_config.num_warmup_steps integer", operation=DPO)
def num_warmup_steps(lab: Lab, operation: str) -> None:
    for count, rates in ((0, [0.01, 0.0075, 0.005, 0.0025]), (2, [0.005, 0.01, 0.01, 0.005])):
        trained = train(lab, operation, optimizer_config=_optimizer(num_warmup_steps=count))
        assert trained.points("lr") == pytest.approx(rates)


# Efficiency


@contextmanager
def _counting_passes() -> Iterator[list[int]]:
    """How many times layers are run through."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    passes = [0]
    forward = LlamaMLP.forward

    def count(self: Any, *arguments: Any) -> Any:
        passes[0] += 1
        return forward(self, *arguments)

    LlamaMLP.forward = count
    try:
        yield passes
    finally:
        LlamaMLP.forward = forward


@field("supervised_fine_tune training_config.efficiency_config.enable_activation_checkpointing boolean", operation=SFT)
@field("preference_optimize training_config.efficiency_config.enable_activation_checkpointing boolean", operation=DPO)
def enable_activation_checkpointing(lab: Lab, operation: str) -> None:
    """Each of two layers is run through once more in the backward pass of each of four steps, to the same end."""
    passes, weights = [], []
    for value in (False, True):
        with _counting_passes() as counted:
            trained = train(lab, operation, efficiency_config={"enable_activation_checkpointing": value}, seed=7)
        passes.append(counted[0])
        weights.append({name: tensor.tolist() for name, tensor in trained.tensors().items()})
    assert passes[1] - passes[0] == 2 * 4
    assert weights[0] == weights[1]


@field("supervised_fine_tune training_config.efficiency_config.enable_activation_offloading boolean", operation=SFT)
@field("preference_optimize training_config.efficiency_config.enable_activation_offloading boolean", operation=DPO)
def enable_activation_offloading(lab: Lab, operation: str) -> None:
    """Activations lay in a file, and the weights are the same to the bit."""
    stayed, went = (
        train(lab, operation, efficiency_config={"enable_activation_offloading": value}) for value in (False, True)
    )
    assert stayed.resources["offloaded_bytes"] is None
    assert went.resources["offloaded_bytes"] > 20_000
    weights = [{name: tensor.tolist() for name, tensor in t.tensors().items()} for t in (stayed, went)]
    assert weights[0] == weights[1]


def _by_two(lab: Lab, operation: str, **efficiency: bool) -> Job:
    """Do the job with two workers, as a server does whose setting says so."""
    two = wiring.build(lab.resources.settings.model_copy(update={"training_workers": 2}))
    try:
        request = _request(lab, operation, {"training_config.efficiency_config": efficiency})
        return run(two, request | {"job_uuid": lab.new_id("by-two")})
    finally:
        two.database.close()


@field("supervised_fine_tune training_config.efficiency_config.memory_efficient_fsdp_wrap boolean", operation=SFT)
@field("preference_optimize training_config.efficiency_config.memory_efficient_fsdp_wrap boolean", operation=DPO)
def memory_efficient_fsdp_wrap(lab: Lab, operation: str) -> None:
    """Two workers have half of the weights each. Embeddings and output layer are whole there from their use in the forward
    pass to the backward pass, or are not."""
    alone = train(lab, operation)
    for value, whole_bytes in ((False, 2 * 261 * 32 * 4 + 32 * 4), (True, 0)):
        job = _by_two(lab, operation, memory_efficient_fsdp_wrap=value)
        told = job.resources
        assert told is not None
        assert told["num_workers"] == 2
        assert told["weight_bytes"] == pytest.approx(alone.resources["weight_bytes"] / 2, rel=0.02)
        assert told["gathered_weight_bytes"] == whole_bytes
        losses = [point["loss"] for point in lab.resources.jobs.metrics(job.job_id)]
        assert losses == pytest.approx(alone.points("loss"), rel=1e-4)
    pointer, message = _refusal(lab, operation, efficiency_config={"memory_efficient_fsdp_wrap": True})
    assert pointer == "/training_config/efficiency_config/memory_efficient_fsdp_wrap"
    assert "a job here trains in one" in message


@field("supervised_fine_tune training_config.efficiency_config.fsdp_cpu_offload boolean", operation=SFT)
@field("preference_optimize training_config.efficiency_config.fsdp_cpu_offload boolean", operation=DPO)
def fsdp_cpu_offload(lab: Lab, operation: str) -> None:
    """Spares the memory of GPUs, of which there are none here: refused by name, with one worker and with two."""
    pointer, message = _refusal(lab, operation, efficiency_config={"fsdp_cpu_offload": True})
    assert pointer == "/training_config/efficiency_config/fsdp_cpu_offload"
    assert "a job here trains in one" in message
    with pytest.raises(InvalidRequestError, match="spares a GPU's memory, and this server trains on a CPU"):
        _by_two(lab, operation, fsdp_cpu_offload=True)


@field("supervised_fine_tune training_config.dtype string", operation=SFT)
@field("preference_optimize training_config.dtype string", operation=DPO)
def dtype(lab: Lab, operation: str) -> None:
    full, half = (train(lab, operation, dtype=value) for value in ("fp32", "bf16"))
    # The frozen base takes half the memory; the adapter stays exact.
    adapter = 4 * full.resources["num_trainable_parameters"]
    assert half.resources["weight_bytes"] - adapter == (full.resources["weight_bytes"] - adapter) / 2
    assert {str(tensor.dtype) for tensor in half.tensors().values()} == {"torch.float32"}
    assert half.points("grad_norm") != full.points("grad_norm")
    assert half.points("grad_norm")[0] == pytest.approx(full.points("grad_norm")[0], rel=0.1)
    pointer, message = _refusal(lab, operation, dtype="fp16")
    assert pointer == "/training_config/dtype"
    assert "for a GPU" in message


# Algorithms of supervised fine-tuning

_LORA = "supervised_fine_tune algorithm_config<LoraFinetuningConfig>"
_QAT = "supervised_fine_tune algorithm_config<QATFinetuningConfig>"


def _lora(lab: Lab, **changes: Any) -> Trained:
    return _train(lab, SFT, {"algorithm_config": LORA | changes})


def _qat(lab: Lab, **changes: Any) -> Trained:
    algorithm = {"type": "QAT", "quantizer_name": "int4", "group_size": 16} | changes
    return _train(lab, SFT, {"algorithm_config": algorithm})


def _adapted(trained: Trained) -> set[str]:
    """The last names of the layers with an adapter."""
    return {name.split(".")[-3] for name in trained.tensors("lora_A")}


@field(f"{_LORA}.type string")
@field(f"{_QAT}.type string")
def algorithm_type(lab: Lab) -> None:
    """An adapter, a whole model with rounded weights, or, without an algorithm, a whole model."""
    lora, qat, full = _lora(lab), _qat(lab), _train(lab, SFT, {"algorithm_config": None})
    assert {tensor.dim() for tensor in lora.tensors().values()} == {2}
    assert all(".lora_" in name for name in lora.tensors())
    assert lora.resources["num_trainable_parameters"] < lora.resources["num_parameters"]
    for whole in (qat, full):
        assert whole.resources["num_trainable_parameters"] == whole.resources["num_parameters"]
    assert qat.read("config.json")["quantization_config"]["quant_method"] == "torchao"
    assert "quantization_config" not in full.read("config.json")
    assert qat.points("loss") != pytest.approx(full.points("loss"), abs=1e-5)


@field(f"{_LORA}.lora_attn_modules[] string")
def lora_attn_modules(lab: Lab) -> None:
    for names, layers in ((["q_proj"], {"q_proj"}), (["v_proj", "output_proj"], {"v_proj", "o_proj"})):
        assert _adapted(_lora(lab, lora_attn_modules=names, apply_lora_to_mlp=False)) == layers


@field(f"{_LORA}.apply_lora_to_mlp boolean")
def apply_lora_to_mlp(lab: Lab) -> None:
    without, with_mlp = (_adapted(_lora(lab, apply_lora_to_mlp=value)) for value in (False, True))
    assert with_mlp - without == {"gate_proj", "up_proj", "down_proj"}


@field(f"{_LORA}.apply_lora_to_output boolean")
def apply_lora_to_output(lab: Lab) -> None:
    without, with_output = (_adapted(_lora(lab, apply_lora_to_output=value)) for value in (False, True))
    assert with_output - without == {"lm_head"}


@field(f"{_LORA}.rank integer")
def rank(lab: Lab) -> None:
    for size in (2, 4):
        assert {tensor.shape[0] for tensor in _lora(lab, rank=size).tensors("lora_A").values()} == {size}


@field(f"{_LORA}.alpha integer")
def alpha(lab: Lab) -> None:
    """Twice the scale is twice the first gradient."""
    steps = {}
    for value in (8, 16):
        changes = {
            f"training_config.{name}": v for name, v in {"max_steps_per_epoch": 1, "max_grad_norm": None}.items()
        }
        optimizer = _optimizer(optimizer_type="sgd", lr=0.5)
        algorithm = {"training_config.optimizer_config": optimizer, "algorithm_config": LORA | {"alpha": value}}
        trained = _train(lab, SFT, changes | algorithm)
        assert trained.read("adapter_config.json")["lora_alpha"] == value
        steps[value] = trained.tensors("lora_B")
    assert all((steps[16][name] - 2 * step).abs().max() < 1e-6 for name, step in steps[8].items())


@field(f"{_LORA}.use_dora boolean")
def use_dora(lab: Lab) -> None:
    plain, dora = (_lora(lab, use_dora=value) for value in (False, True))
    assert (len(plain.tensors("magnitude")), len(dora.tensors("magnitude"))) == (0, 2 * 6)
    assert plain.points("loss") != dora.points("loss")


@field(f"{_LORA}.quantize_base boolean")
def quantize_base(lab: Lab) -> None:
    exact, rounded = (_lora(lab, quantize_base=value) for value in (False, True))
    # Seven matrices in each of two layers: (32 + 16 + 16 + 32) × 32 and 3 × 32 × 64 weights, of half a byte, not of four.
    saved = 2 * (96 * 32 + 3 * 32 * 64) * 3.5
    assert exact.resources["weight_bytes"] - rounded.resources["weight_bytes"] == saved
    assert exact.resources["num_parameters"] == rounded.resources["num_parameters"]
    assert exact.points("loss")[0] != rounded.points("loss")[0]
    assert exact.points("loss")[0] == pytest.approx(rounded.points("loss")[0], rel=0.05)


@field(f"{_QAT}.quantizer_name string")
def quantizer_name(lab: Lab) -> None:
    weights, losses = {}, {}
    for name in ("int4", "int8", "int8_dynamic_int4"):
        trained = _qat(lab, quantizer_name=name)
        weights[name] = max(tensor.abs().max().item() for tensor in trained.tensors("_weight_qdata").values())
        losses[name] = trained.points("loss")[0]
        kind = trained.read("config.json")["quantization_config"]["quant_type"]["default"]["_type"]
        assert kind == ("IntxWeightOnlyConfig" if name.startswith("int4") or name == "int8" else _DYNAMIC)
    assert (weights["int4"], weights["int8_dynamic_int4"]) == (8, 8)
    assert 100 < weights["int8"] <= 128
    assert len(set(losses.values())) == 3


_DYNAMIC = "Int8DynamicActivationIntxWeightConfig"


@field(f"{_QAT}.group_size integer")
def group_size(lab: Lab) -> None:
    for size in (16, 32):
        scales = _qat(lab, group_size=size).tensors("mlp.down_proj._weight_scale")
        # 64 inputs to each of 32 outputs.
        assert [tuple(scale.shape) for scale in scales.values()] == [(32, 64 // size)] * 2


# The algorithm of preference optimisation


@field("preference_optimize algorithm_config.beta number")
def beta(lab: Lab) -> None:
    """The loss of ipo stands at (1 / 2β)² where policy and reference are one."""
    for value, first in ((0.1, 25.0), (0.5, 1.0)):
        trained = _train(lab, DPO, {"algorithm_config.beta": value, "algorithm_config.loss_type": "ipo"})
        assert trained.points("loss")[0] == pytest.approx(first, rel=1e-6)


@field("preference_optimize algorithm_config.loss_type=sigmoid enum", name="sigmoid", first=math.log(2))
@field("preference_optimize algorithm_config.loss_type=hinge enum", name="hinge", first=1.0)
@field("preference_optimize algorithm_config.loss_type=ipo enum", name="ipo", first=25.0)
@field("preference_optimize algorithm_config.loss_type=kto_pair enum", name="kto_pair", first=0.5)
def loss_type(lab: Lab, name: str, first: float) -> None:
    trained = _train(lab, DPO, {"algorithm_config.loss_type": name})
    assert trained.points("loss")[0] == pytest.approx(first, rel=1e-6)
    # And what is learnt from there on is another thing with each.
    others = [_train(lab, DPO, {"algorithm_config.loss_type": o}) for o in ("sigmoid", "ipo", "kto_pair") if o != name]
    for other in others:
        assert other.points("grad_norm") != trained.points("grad_norm")
    assert trained.points("reward_margin")[-1] > 0

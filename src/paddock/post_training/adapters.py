"""The model that is trained: all its weights, or a LoRA or DoRA adapter on a frozen base.

Trained weights are float32. A frozen base is kept in the compute type; a model that is trained whole computes in it by
autocast. Nothing is loaded but safetensors, and no code from a model's folder runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from paddock.errors import InvalidRequestError
from paddock.post_training import attention, head, modules, optimizers, sharding
from paddock.post_training.batches import Batch, Pack, collate
from paddock.post_training.config import Config, Lora
from paddock.post_training.losses import token_log_probs
from paddock.post_training.offloading import Offload
from paddock.post_training.sharding import Shards
from paddock.post_training.source import Source
from paddock.post_training.team import Team
from paddock.post_training.tokens import IGNORED, TokenizedRow


@dataclass(frozen=True)
class Trainee:
    """A model in training. `is_adapter` tells whether only an adapter is; `compute` is the type of its products;
    `recomputes` whether activations are computed anew in the backward pass instead of kept, `offload` where they are kept
    if not in place. `scaler` is of the losses, in float16; `shards` where several workers hold the weights.
    `attends_by_row` tells whether batches go through it without padding (`attention`), `fuses_head` whether its output layer
    and the loss are one (`head`)."""

    model: Any
    device: torch.device
    is_adapter: bool
    compute: torch.dtype
    recomputes: bool
    offload: Offload | None
    scaler: Any
    shards: Shards | None
    attends_by_row: bool
    fuses_head: bool

    @cached_property
    def trained(self) -> dict[str, Parameter]:
        """The weights that change, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def num_parameters(self) -> int:
        # Weights of four bits share bytes; what they are of says how many they are.
        return sum(getattr(p, "quant_state", p).shape.numel() for p in self.model.parameters())

    @property
    def num_weight_bytes(self) -> int:
        """What the weights take, or this worker's part of them."""
        return sum(sharding.num_local_bytes(p) for p in self.model.parameters())

    def log_probs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """log p of every token that bears a loss (N), and which places they are (B, T-1: the token after each place).

        Only those places go through the output layer, which for a large vocabulary is most of the work."""
        is_target_BT = batch.labels_BT[:, 1:] != IGNORED
        targets_N = batch.labels_BT[:, 1:][is_target_BT].to(self.device)
        output_layer = self.model.get_output_embeddings()
        with nullcontext() if self.offload is None else self.offload.saving():
            with (
                self._computing(),
                _only(output_layer, self._is_chosen(batch, is_target_BT)),
                head.left_out(output_layer) if self.fuses_head else nullcontext(),
            ):
                # Logits, or what they are made of where the output layer is left out.
                outputs_NX = self.model(**self._inputs(batch), use_cache=False).logits[0]
            if self.shards is not None and torch.is_grad_enabled():
                self.shards.look()
            if self.fuses_head:
                return head.log_probs(outputs_NX.to(self.compute), output_layer.weight, targets_N), is_target_BT
            return token_log_probs(outputs_NX, targets_N), is_target_BT

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        if self.attends_by_row:
            return {"input_ids": batch.ids_BT[batch.is_real_BT][None], **attention.arguments(batch.member_lengths)}
        # Right padding needs no mask in a causal model; positions that begin anew are what keeps packed rows apart.
        positions = {} if batch.positions_BT is None else {"position_ids": batch.positions_BT.to(self.device)}
        return {"input_ids": batch.ids_BT.to(self.device), **positions}

    def _is_chosen(self, batch: Batch, is_target_BT: Tensor) -> Tensor:
        """Which places of the model's input foretell a token that bears a loss."""
        is_chosen_BT = torch.cat([is_target_BT, torch.zeros(len(is_target_BT), 1, dtype=torch.bool)], dim=1)
        return is_chosen_BT[batch.is_real_BT][None] if self.attends_by_row else is_chosen_BT.to(self.device)

    def _computing(self) -> AbstractContextManager[Any]:
        is_mixed = self.compute is not torch.float32 and not self.is_adapter
        context: AbstractContextManager[Any] = torch.autocast(self.device.type, self.compute, enabled=is_mixed)
        return context


@contextmanager
def _only(output_layer: nn.Module, is_chosen_BT: Tensor) -> Iterator[None]:
    """Inside, the model's output layer sees the hidden states of the chosen places alone, as one sequence."""

    def choose(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][is_chosen_BT].unsqueeze(0), *inputs[1:])

    hook = output_layer.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()


def load(source: Source, folder: Path, config: Config, team: Team, *, scratch: Path) -> Trainee:
    """The model of `folder` with what `config` trains of it. Raises `InvalidRequestError` if it cannot be. `scratch` is a
    folder for what need not outlive the process.

    A LoRA that is asked for is put on the base; if the source is an adapter itself, that one is trained on (its shape was
    found to be the same), or, where no LoRA is asked for, folded into the weights for supervised fine-tuning and trained
    on in preference optimisation."""
    compute, device = getattr(torch, config.dtype), team.device
    is_adapter = config.lora is not None or (source.adapter is not None and config.preference is not None)
    quantized = {}
    if config.quantizes_base:
        # Imported where it is asked for: an optional package.
        from paddock.post_training import quantized_base

        quantized = quantized_base.loading(compute, device)
    model = _load_base(folder, source.model_id, compute if is_adapter else torch.float32, **quantized)
    if quantized:
        quantized_base.keep_as_loaded(model)
    is_cpu = device.type == "cpu"
    has_last_head = is_cpu and team.is_alone and head.is_last(model)
    attends_by_row = is_cpu and attention.use(model)
    if is_adapter:
        model = _with_adapter(model, source, config)
    elif source.adapter is not None:
        model = PeftModel.from_pretrained(model, source.adapter).merge_and_unload()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    if config.qat is not None:
        from paddock.post_training import qat

        qat.prepare(model, config.qat, source.model_id)
    if config.activation_checkpointing:
        _recompute_activations(model, source.model_id)
    if config.preference is not None:
        _switch_off_dropout(model)
    model = model.to(device)
    shards = None
    if not team.is_alone:
        efficient, offload = config.memory_efficient_fsdp_wrap, config.fsdp_cpu_offload
        # From here on random numbers are for dropout, and each worker has rows of its own.
        torch.manual_seed(config.seed + team.rank)
        shards = sharding.shard(model, team, memory_efficient=efficient, cpu_offload=offload)
    trainee = Trainee(
        model=model,
        device=device,
        is_adapter=is_adapter,
        compute=compute,
        recomputes=config.activation_checkpointing,
        offload=Offload(model, device, scratch) if config.activation_offloading else None,
        scaler=optimizers.make_scaler(compute, device),
        shards=shards,
        attends_by_row=attends_by_row,
        fuses_head=has_last_head and head.is_product(model.get_output_embeddings()),
    )
    assert all(p.dtype is torch.float32 for p in trainee.trained.values())
    return trainee


def check_packing(trainee: Trainee, rows: Sequence[TokenizedRow], packs: Sequence[Pack], pad_id: int) -> None:
    """Raise `InvalidRequestError` for a model in which rows that share a sequence see each other.

    Two packs that differ in their first row alone must give the others the very same probabilities."""
    pack = next((pack for pack in packs if len(pack) > 1), None)
    if pack is None or trainee.attends_by_row:  # where rows are joined anyway, that was seen at once
        return
    first = replace(rows[pack[0]], labels=array("i", [IGNORED] * len(rows[pack[0]])))
    others = [rows[number] for number in pack[1:]]
    numbers = tuple(range(len(pack)))
    same = collate([first, *others], [numbers], pad_id)
    other = collate([replace(first, ids=first.ids[::-1]), *others], [numbers], pad_id)
    trainee.model.eval()
    with torch.no_grad():
        keeps_apart = torch.equal(trainee.log_probs(same)[0], trainee.log_probs(other)[0])
    trainee.model.train()
    if not keeps_apart:
        raise InvalidRequestError(
            "Rows cannot be packed for this model: its attention does not keep the rows of a sequence apart.",
            pointer="/training_config/data_config/packed",
        )


def _load_base(folder: Path, model_id: str, dtype: torch.dtype, **quantized: Any) -> Any:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **quantized,
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).replace(str(folder), "its folder")
        raise InvalidRequestError(f"The model {model_id} cannot be loaded: {reason}") from error
    if report["missing_keys"]:
        # The library would go on with random numbers in their place.
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        raise InvalidRequestError(f"The model {model_id} cannot be loaded: its files lack the weights {missing}.")
    return model


def _with_adapter(model: Any, source: Source, config: Config) -> Any:
    """The adapter that the job starts from, or a new one, on its base."""
    if source.adapter is None:
        assert config.lora is not None
        return get_peft_model(model, _lora_config(model, config.lora, source))
    # Dropout is no part of an adapter's weights: it is the request's, and none where nobody asked for it.
    peft_config = LoraConfig.from_pretrained(source.adapter)
    peft_config.lora_dropout = 0.0 if config.lora is None else config.lora.dropout
    return PeftModel.from_pretrained(model, source.adapter, config=peft_config, is_trainable=True)


def _lora_config(model: Any, lora: Lora, source: Source) -> LoraConfig:
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    if model.get_output_embeddings().weight is model.get_input_embeddings().weight:
        linear = [name for name in linear if model.get_submodule(name) is not model.get_output_embeddings()]
    targets, errors = modules.lora_targets(linear, lora, "/algorithm_config")
    if errors:
        raise InvalidRequestError(" ".join(error.message for error in errors), errors=tuple(errors))
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=source.base,
        target_modules=targets,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.use_dora,
        # A layer in four bits knows what it was before.
        fan_in_fan_out=any(getattr(m, "source_cls", type(m)) is Conv1D for m in model.modules()),
    )


def _recompute_activations(model: Any, model_id: str) -> None:
    # Earlier versions of transformers 5 know it by its older name alone.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError:
        raise InvalidRequestError(
            f"The model {model_id} cannot compute its activations anew.",
            pointer="/training_config/efficiency_config/enable_activation_checkpointing",
        ) from None


def _switch_off_dropout(model: Any) -> None:
    """Take the base's own dropout away, not the adapter's: preferences are measured between two answers of one model,
    and at the first step against itself."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        for attribute in ("dropout", "attention_dropout"):
            # Attention drops in the functional way, by a number that it keeps.
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)

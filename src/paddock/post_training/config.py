"""What a job was asked for, with every default in its place: frozen, cheap, and free of pydantic and tensors.

A `Config` is made from a request that `checks` let pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from paddock.post_training.schemas import (
    DataConfig,
    LoraFinetuningConfig,
    OptimizerConfig,
    OptimizerType,
    PreferenceOptimizeRequest,
    QATFinetuningConfig,
    SupervisedFineTuneRequest,
    TrainingConfig,
)

DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "fp32": "float32",
    "float32": "float32",
}
"""The contract's `dtype` in torch's words."""

DEFAULT_MAX_SEQ_LEN = 2048

# Where `optimizer_config` is absent. Adapters, which start at nothing, bear ten times the rate of whole weights.
DEFAULT_LORA_LR = 1e-4
DEFAULT_FULL_LR = 1e-5


@dataclass(frozen=True)
class Lora:
    """Which layers get an adapter, and of what size. Its output is scaled by `alpha / rank`."""

    attn_modules: tuple[str, ...]
    mlp: bool
    output: bool
    rank: int
    alpha: int
    use_dora: bool
    quantize_base: bool
    dropout: float


QUANTIZERS = {
    "int8_dynamic_int4": "int8_dynamic_int4",
    "Int8DynActInt4WeightQATQuantizer": "int8_dynamic_int4",
    "int4": "int4",
    "Int4WeightOnlyQATQuantizer": "int4",
    "int8": "int8",
}
"""The contract's `quantizer_name`, torchtune's names among them, and what it stands for: the type of the weights, and
of what goes into a layer where that is rounded too, token by token."""


@dataclass(frozen=True)
class Qat:
    """Quantisation-aware training: `group_size` neighbouring weights share a scale."""

    quantizer: str
    group_size: int


@dataclass(frozen=True)
class Optimizer:
    """`warm-up, then schedule` of the learning rate; `max_grad_norm` None never scales gradients."""

    optimizer_type: str
    lr: float
    weight_decay: float
    num_warmup_steps: int
    lr_schedule: str
    max_grad_norm: float | None


@dataclass(frozen=True)
class Preference:
    """The loss of preference optimisation."""

    loss_type: str
    beta: float


@dataclass(frozen=True)
class Config:
    """One training job. `max_…` None is without bound; `lora` None trains all weights (or the adapter that is there)."""

    job_uuid: str
    model_id: str
    checkpoint_dir: str | None
    dataset_id: str
    validation_dataset_id: str | None
    data_format: str
    batch_size: int
    shuffle: bool
    packed: bool
    train_on_input: bool
    num_epochs: int
    max_steps_per_epoch: int | None
    num_accumulated_batches: int
    max_validation_batches: int | None
    max_seq_len: int | None
    seed: int
    dtype: str
    activation_checkpointing: bool
    activation_offloading: bool
    memory_efficient_fsdp_wrap: bool
    fsdp_cpu_offload: bool
    optimizer: Optimizer
    lora: Lora | None
    qat: Qat | None
    preference: Preference | None

    @property
    def quantizes_base(self) -> bool:
        return self.lora is not None and self.lora.quantize_base


def of_supervised(request: SupervisedFineTuneRequest) -> Config:
    """The configuration of a supervised fine-tuning whose `model` is named."""
    assert request.model is not None
    config = _common(request.job_uuid, request.model, request.training_config)
    algorithm = request.algorithm_config
    if isinstance(algorithm, LoraFinetuningConfig):
        config = _with_lora(config, request.training_config, algorithm)
    elif isinstance(algorithm, QATFinetuningConfig):
        config = replace(config, qat=Qat(QUANTIZERS[algorithm.quantizer_name], algorithm.group_size))
    return replace(config, checkpoint_dir=request.checkpoint_dir)


def of_preference(request: PreferenceOptimizeRequest) -> Config:
    """The configuration of a preference optimisation."""
    config = _common(request.job_uuid, request.finetuned_model, request.training_config)
    algorithm = request.algorithm_config
    if algorithm.lora is not None:
        config = _with_lora(config, request.training_config, algorithm.lora)
    return replace(config, preference=Preference(algorithm.loss_type.value, algorithm.beta))


def _common(job_uuid: str, model_id: str, training: TrainingConfig) -> Config:
    data = training.data_config
    assert isinstance(data, DataConfig)
    efficiency = training.efficiency_config
    return Config(
        job_uuid=job_uuid,
        model_id=model_id,
        checkpoint_dir=None,
        dataset_id=data.dataset_id,
        validation_dataset_id=data.validation_dataset_id,
        data_format=data.data_format.value,
        batch_size=data.batch_size,
        shuffle=data.shuffle,
        packed=bool(data.packed),
        train_on_input=bool(data.train_on_input),
        num_epochs=training.n_epochs,
        max_steps_per_epoch=_bound(training.max_steps_per_epoch),
        num_accumulated_batches=training.gradient_accumulation_steps,
        max_validation_batches=_bound(training.max_validation_steps),
        max_seq_len=training.max_seq_len,
        seed=training.seed,
        dtype=DTYPES[training.dtype or "bf16"],
        activation_checkpointing=bool(efficiency and efficiency.enable_activation_checkpointing),
        activation_offloading=bool(efficiency and efficiency.enable_activation_offloading),
        memory_efficient_fsdp_wrap=bool(efficiency and efficiency.memory_efficient_fsdp_wrap),
        fsdp_cpu_offload=bool(efficiency and efficiency.fsdp_cpu_offload),
        optimizer=_optimizer(training, DEFAULT_FULL_LR),
        lora=None,
        qat=None,
        preference=None,
    )


def _with_lora(config: Config, training: TrainingConfig, lora: LoraFinetuningConfig) -> Config:
    return replace(
        config,
        optimizer=_optimizer(training, DEFAULT_LORA_LR),
        lora=Lora(
            attn_modules=tuple(lora.lora_attn_modules),
            mlp=lora.apply_lora_to_mlp,
            output=lora.apply_lora_to_output,
            rank=lora.rank,
            alpha=lora.alpha,
            use_dora=bool(lora.use_dora),
            quantize_base=bool(lora.quantize_base),
            dropout=lora.dropout,
        ),
    )


def _optimizer(training: TrainingConfig, default_lr: float) -> Optimizer:
    asked = training.optimizer_config or OptimizerConfig(
        optimizer_type=OptimizerType.ADAMW, lr=default_lr, weight_decay=0.0, num_warmup_steps=0
    )
    return Optimizer(
        optimizer_type=asked.optimizer_type.value,
        lr=asked.lr,
        weight_decay=asked.weight_decay,
        num_warmup_steps=asked.num_warmup_steps,
        lr_schedule=training.lr_schedule,
        max_grad_norm=training.max_grad_norm,
    )


def _bound(count: int | None) -> int | None:
    return None if count in (None, -1) else count

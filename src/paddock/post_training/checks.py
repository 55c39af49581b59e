"""What a training request may ask for, told by its fields alone: nothing here looks at models, rows or files.

Each refusal names its field. What is refused for now, though the contract has it, says why.
"""

from __future__ import annotations

from collections.abc import Iterator

from paddock.errors import FieldError
from paddock.post_training import logger_config, machine
from paddock.post_training.config import DTYPES, QUANTIZERS
from paddock.post_training.schemas import (
    DataConfig,
    EfficiencyConfig,
    LoraFinetuningConfig,
    OptimizerConfig,
    PreferenceOptimizeRequest,
    QATFinetuningConfig,
    SupervisedFineTuneRequest,
    TrainingConfig,
)
from paddock.settings import Settings

_MAX_COUNT = 2**31 - 1
_MAX_SEED = 2**63 - 1
_MAX_IDENTIFIER = 256  # a checkpoint's identifier is an id, and ids end there


def supervised(request: SupervisedFineTuneRequest, settings: Settings) -> list[FieldError]:
    """What is wrong with a supervised fine-tuning."""
    errors = list(_common(request, settings))
    algorithm = request.algorithm_config
    if isinstance(algorithm, LoraFinetuningConfig):
        errors += _lora(algorithm, "/algorithm_config", settings)
    elif isinstance(algorithm, QATFinetuningConfig):
        errors += _qat(algorithm, settings)
    return errors


def preference(request: PreferenceOptimizeRequest, settings: Settings) -> list[FieldError]:
    """What is wrong with a preference optimisation."""
    errors = list(_common(request, settings))
    algorithm = request.algorithm_config
    if algorithm.beta <= 0:
        errors.append(FieldError("/algorithm_config/beta", "must be greater than 0"))
    if algorithm.lora is not None:
        errors += _lora(algorithm.lora, "/algorithm_config/lora", settings)
    return errors


def _common(request: SupervisedFineTuneRequest | PreferenceOptimizeRequest, settings: Settings) -> Iterator[FieldError]:
    training = request.training_config
    if len(f"{request.job_uuid}:epoch-{training.n_epochs}") > _MAX_IDENTIFIER:
        yield FieldError(
            "/job_uuid", "is too long: a checkpoint's identifier `<job_uuid>:epoch-<n>` has 256 characters"
        )
    yield from _training(training, settings)
    if training.data_config is None:
        yield FieldError("/training_config/data_config", "is required: it names the dataset")
    else:
        yield from _data(training.data_config)
    if training.optimizer_config is not None:
        yield from _optimizer(training.optimizer_config)
    if training.efficiency_config is not None:
        yield from _efficiency(training.efficiency_config, settings)
    yield from logger_config.check(request.logger_config)


def _training(training: TrainingConfig, settings: Settings) -> Iterator[FieldError]:
    place = "/training_config"
    yield from _count(training.n_epochs, f"{place}/n_epochs")
    yield from _count(training.gradient_accumulation_steps, f"{place}/gradient_accumulation_steps")
    yield from _count(training.max_steps_per_epoch, f"{place}/max_steps_per_epoch", all_as_minus_one=True)
    if training.max_validation_steps is not None:
        yield from _count(training.max_validation_steps, f"{place}/max_validation_steps", all_as_minus_one=True)
    if training.max_seq_len is not None:
        yield from _count(training.max_seq_len, f"{place}/max_seq_len", least=2)
    if not 0 <= training.seed <= _MAX_SEED:
        yield FieldError(f"{place}/seed", f"must be between 0 and {_MAX_SEED}")
    if training.max_grad_norm is not None and training.max_grad_norm <= 0:
        yield FieldError(f"{place}/max_grad_norm", "must be greater than 0, or null for no bound")
    if training.dtype is not None and training.dtype not in DTYPES:
        yield FieldError(f"{place}/dtype", f"must be one of {', '.join(DTYPES)}")
    elif DTYPES[training.dtype or "bf16"] == "float16" and not machine.may_have_gpu(settings):
        yield _refused(f"{place}/dtype", "fp16 is for a GPU, and this server trains on a CPU: use bf16")
    elif DTYPES[training.dtype or "bf16"] == "float16" and settings.training_workers > 1:
        yield _refused(f"{place}/dtype", f"fp16 is for one worker, and {_several(settings)}: use bf16")


def _data(data: DataConfig) -> Iterator[FieldError]:
    yield from _count(data.batch_size, "/training_config/data_config/batch_size")


def _optimizer(optimizer: OptimizerConfig) -> Iterator[FieldError]:
    place = "/training_config/optimizer_config"
    if optimizer.lr <= 0:
        yield FieldError(f"{place}/lr", "must be greater than 0")
    if optimizer.weight_decay < 0:
        yield FieldError(f"{place}/weight_decay", "must not be negative")
    yield from _count(optimizer.num_warmup_steps, f"{place}/num_warmup_steps", least=0)


def _efficiency(efficiency: EfficiencyConfig, settings: Settings) -> Iterator[FieldError]:
    place = "/training_config/efficiency_config"
    alone = "weights are split among several workers, and a job here trains in one: see the setting training_workers"
    if efficiency.memory_efficient_fsdp_wrap and settings.training_workers == 1:
        yield _refused(f"{place}/memory_efficient_fsdp_wrap", alone)
    if efficiency.fsdp_cpu_offload and settings.training_workers == 1:
        yield _refused(f"{place}/fsdp_cpu_offload", alone)
    elif efficiency.fsdp_cpu_offload and not machine.may_have_gpu(settings):
        yield _refused(f"{place}/fsdp_cpu_offload", "it spares a GPU's memory, and this server trains on a CPU")


def _lora(lora: LoraFinetuningConfig, place: str, settings: Settings) -> Iterator[FieldError]:
    yield from _count(lora.rank, f"{place}/rank")
    yield from _count(lora.alpha, f"{place}/alpha")
    if not 0 <= lora.dropout < 1:
        yield FieldError(f"{place}/dropout", "must be at least 0 and less than 1")
    if not (lora.lora_attn_modules or lora.apply_lora_to_mlp or lora.apply_lora_to_output):
        yield FieldError(f"{place}/lora_attn_modules", "is empty, and so nothing would be trained")
    if lora.quantize_base:
        yield from _packages(f"{place}/quantize_base", "bitsandbytes", "accelerate")
        if settings.training_workers > 1:
            yield _refused(f"{place}/quantize_base", f"weights of four bits cannot be split, and {_several(settings)}")


def _qat(algorithm: QATFinetuningConfig, settings: Settings) -> Iterator[FieldError]:
    if algorithm.quantizer_name not in QUANTIZERS:
        yield FieldError("/algorithm_config/quantizer_name", f"must be one of {', '.join(QUANTIZERS)}")
    yield from _count(algorithm.group_size, "/algorithm_config/group_size", least=2)
    yield from _packages("/algorithm_config/type", "torchao", "accelerate")
    if settings.training_workers > 1:
        yield _refused("/algorithm_config/type", f"QAT is for one worker, and {_several(settings)}")


def _several(settings: Settings) -> str:
    return f"a job here trains in {settings.training_workers}"


def _packages(pointer: str, *packages: str) -> Iterator[FieldError]:
    missing = machine.missing(*packages)
    if missing:
        reason = f"{' and '.join(missing)} is not installed here: pip install 'paddock[quantization]'"
        yield _refused(pointer, reason)


def _count(value: int, pointer: str, *, least: int = 1, all_as_minus_one: bool = False) -> Iterator[FieldError]:
    if all_as_minus_one and value == -1:
        return
    if not least <= value <= _MAX_COUNT:
        unless = ", or -1 for all" if all_as_minus_one else ""
        yield FieldError(pointer, f"must be between {least} and {_MAX_COUNT}{unless}")


def _refused(pointer: str, reason: str) -> FieldError:
    return FieldError(pointer, f"is refused: {reason}")

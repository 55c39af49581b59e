"""The contract's Post Training schemas, with the extensions marked. What each field means is in docs/post-training.md."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from paddock.jobs.states import JobStatus
from paddock.wire import Id, Named, RequestBody, Schema

_EXTENSION: dict[str, Any] = {"x-paddock-extension": True}


class DatasetFormat(StrEnum):
    """Format of the training dataset."""

    INSTRUCT = "instruct"
    DIALOG = "dialog"


class OptimizerType(StrEnum):
    """Available optimizer algorithms for training."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"


class DPOLossType(StrEnum):
    SIGMOID = "sigmoid"
    HINGE = "hinge"
    IPO = "ipo"
    KTO_PAIR = "kto_pair"


class DataConfig(Schema):
    """Configuration for training data and data loading."""

    dataset_id: str
    batch_size: int
    shuffle: bool
    data_format: Named[DatasetFormat]
    validation_dataset_id: str | None = None
    packed: bool | None = False
    train_on_input: bool | None = False


class OptimizerConfig(Schema):
    """Configuration parameters for the optimization algorithm."""

    optimizer_type: Named[OptimizerType]
    lr: float
    weight_decay: float
    num_warmup_steps: int


class EfficiencyConfig(Schema):
    """Configuration for memory and compute efficiency optimizations."""

    enable_activation_checkpointing: bool | None = False
    enable_activation_offloading: bool | None = False
    memory_efficient_fsdp_wrap: bool | None = False
    fsdp_cpu_offload: bool | None = False


class TrainingConfig(Schema):
    """Comprehensive configuration for the training process."""

    n_epochs: int
    max_steps_per_epoch: int = 1
    gradient_accumulation_steps: int = 1
    max_validation_steps: int | None = 1
    data_config: Annotated[DataConfig, Field(title="DataConfig")] | None = Field(default=None, title="DataConfig")
    optimizer_config: Annotated[OptimizerConfig, Field(title="OptimizerConfig")] | None = Field(
        default=None, title="OptimizerConfig"
    )
    efficiency_config: Annotated[EfficiencyConfig, Field(title="EfficiencyConfig")] | None = Field(
        default=None, title="EfficiencyConfig"
    )
    dtype: str | None = "bf16"
    seed: int = Field(default=0, description="Of weights, order and dropout.", json_schema_extra=_EXTENSION)
    max_seq_len: int | None = Field(
        default=None,
        description="Tokens a row is cut to. Default: the smaller of the model's limit and 2048.",
        json_schema_extra=_EXTENSION,
    )
    lr_schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the rate goes on after the warm-up.", json_schema_extra=_EXTENSION
    )
    max_grad_norm: float | None = Field(
        default=1.0, description="Gradients are scaled down to this norm; null: never.", json_schema_extra=_EXTENSION
    )


class LoraFinetuningConfig(Schema):
    """Configuration for Low-Rank Adaptation (LoRA) fine-tuning."""

    type: Literal["LoRA"] = "LoRA"
    lora_attn_modules: list[str]
    apply_lora_to_mlp: bool
    apply_lora_to_output: bool
    rank: int
    alpha: int
    use_dora: bool | None = False
    quantize_base: bool | None = False
    dropout: float = Field(
        default=0.0, description="Dropout on the input of each adapter.", json_schema_extra=_EXTENSION
    )


class QATFinetuningConfig(Schema):
    """Configuration for Quantization-Aware Training (QAT) fine-tuning."""

    type: Literal["QAT"] = "QAT"
    quantizer_name: str
    group_size: int


class DPOAlignmentConfig(Schema):
    """Configuration for Direct Preference Optimization (DPO) alignment."""

    beta: float
    loss_type: Named[DPOLossType] = DPOLossType.SIGMOID
    lora: LoraFinetuningConfig | None = Field(
        default=None,
        description="Train a new LoRA on a whole model; absent: full fine-tuning, or the adapter that is there.",
        json_schema_extra=_EXTENSION,
    )


AlgorithmConfig = Annotated[
    Annotated[LoraFinetuningConfig, Field(title="LoraFinetuningConfig")]
    | Annotated[QATFinetuningConfig, Field(title="QATFinetuningConfig")],
    Field(discriminator="type", title="LoraFinetuningConfig | QATFinetuningConfig"),
]


class SupervisedFineTuneRequest(RequestBody):
    job_uuid: Id
    training_config: TrainingConfig
    hyperparam_search_config: dict[str, Any]
    logger_config: dict[str, Any]
    model: str | None = Field(default=None, description="Model descriptor for training if not in provider config`")
    checkpoint_dir: str | None = None
    algorithm_config: AlgorithmConfig | None = None


class PreferenceOptimizeRequest(RequestBody):
    job_uuid: Id
    finetuned_model: str
    algorithm_config: DPOAlignmentConfig
    training_config: TrainingConfig
    hyperparam_search_config: dict[str, Any]
    logger_config: dict[str, Any]


class CancelTrainingJobRequest(RequestBody):
    job_uuid: str


class PostTrainingJob(Schema):
    job_uuid: str


class ListPostTrainingJobsResponse(Schema):
    data: list[PostTrainingJob]


class PostTrainingMetric(Schema):
    """Training metrics captured during post-training jobs."""

    epoch: int
    train_loss: float
    validation_loss: float
    perplexity: float


class Checkpoint(Schema):
    """Checkpoint created during training runs."""

    identifier: str
    created_at: datetime
    epoch: int
    post_training_job_id: str
    path: str
    training_metrics: Annotated[PostTrainingMetric, Field(title="PostTrainingMetric")] | None = Field(
        default=None, title="PostTrainingMetric"
    )


class PostTrainingJobArtifactsResponse(Schema):
    """Artifacts of a finetuning job."""

    job_uuid: str
    checkpoints: list[Checkpoint] = Field(default_factory=list)


class PostTrainingJobStatusResponse(Schema):
    """Status of a finetuning job."""

    job_uuid: str
    status: JobStatus
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    resources_allocated: dict[str, Any] | None = None
    checkpoints: list[Checkpoint] = Field(default_factory=list)
    put_off: str | None = Field(
        default=None,
        description="Why a scheduled job was put off: what it needs is away.",
        json_schema_extra=_EXTENSION,
    )
    error: str | None = Field(default=None, description="Why the job failed.", json_schema_extra=_EXTENSION)
    retryable: bool | None = Field(
        default=None, description="Whether the same request may go better another time.", json_schema_extra=_EXTENSION
    )
    log_tail: str | None = Field(
        default=None, description="The last lines that a failed job printed.", json_schema_extra=_EXTENSION
    )
    progress: dict[str, Any] | None = Field(
        default=None, description="`{done, total, unit}`.", json_schema_extra=_EXTENSION
    )


class SearchTrial(Schema):
    """A trial of a hyperparameter search. `parameters` are JSON pointers into the request and their values; `value` is the
    objective, `validation_losses` those after each epoch up to where it ended."""

    number: int
    job_uuid: str
    parameters: dict[str, Any]
    status: Literal["running", "completed", "pruned", "failed"]
    value: float | None
    validation_losses: list[float]
    error: str | None
    eval_job_id: str | None


class ListSearchTrialsResponse(Schema):
    """The trials of a search, of `num_trials` at most; `best` is the number of the best so far."""

    data: list[SearchTrial]
    objective: str | dict[str, Any]
    num_trials: int
    best: int | None

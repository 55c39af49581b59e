"""What a training job starts from: a base model, and perhaps an adapter on it. Reads configurations, never weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddock import hub
from paddock.errors import FieldError, InvalidRequestError
from paddock.inference.engine import Model
from paddock.inference.inference import LOCAL
from paddock.post_training import modules
from paddock.post_training.config import DEFAULT_MAX_SEQ_LEN, Config, Lora, Qat

_LORA_POINTERS = {"sft": "/algorithm_config", "dpo": "/algorithm_config/lora"}


@dataclass(frozen=True)
class Source:
    """`base` is what `hub.fetch` takes (a folder or a hub id), `adapter` the folder of an adapter on it, or None."""

    model_id: str
    base: str
    adapter: Path | None

    @property
    def local_base(self) -> Path | None:
        """The base's folder if it is one already, None for a hub id that is yet to be fetched."""
        return Path(self.base) if Path(self.base).is_absolute() else None


def resolve(model: Model, checkpoint_root: Path, pointer: str) -> Source:
    """The base and adapter that a model's id stands for. Raises `InvalidRequestError` if it cannot be trained."""
    if model.provider_id != LOCAL:
        raise InvalidRequestError(
            f"The model {model.model_id} belongs to the provider {model.provider_id}: its weights are elsewhere, and only "
            "local models can be trained.",
            pointer=pointer,
        )
    if model.model_type != "llm":
        raise InvalidRequestError(
            f"The model {model.model_id} is of the type {model.model_type}; only an llm can be trained.",
            pointer=pointer,
        )
    source = Source(model.model_id, model.provider_model_id, adapter=None)
    if model.job_id is not None:
        folder = checkpoint_root / model.provider_model_id
        if model.base_model is None:
            source = replace(source, base=str(folder))
        else:
            source = Source(model.model_id, model.base_model, adapter=folder)
    try:
        if source.local_base is None:
            hub.check_name(source.base)
        else:
            hub.read_config(source.local_base, model.model_id)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.detail, pointer=pointer) from None
    return source


def check(source: Source, folder: Path, config: Config, pointer: str) -> list[FieldError]:
    """What in a request the model in `folder` cannot do; `pointer` is where the request names the model.

    Called at submission where the folder is here already, and in the job for a model that had to be fetched."""
    read = hub.read_config(folder, source.model_id)
    errors = _check_kind(source, folder, read, pointer)
    if errors:
        return errors
    limit = max_positions(read)
    if config.max_seq_len is not None and limit is not None and config.max_seq_len > limit:
        message = f"The model {source.model_id} takes at most {limit} tokens."
        errors.append(FieldError("/training_config/max_seq_len", message))
    try:
        shapes = modules.linear_layers(folder)
    except ValueError as error:
        errors.append(FieldError(pointer, f"The model {source.model_id} cannot be loaded: {error}."))
        return errors
    if config.lora is not None:
        errors += _check_lora(source, shapes, read, config.lora, _lora_pointer(config))
    if config.qat is not None:
        errors += _check_qat(source, shapes, read, config.qat)
    return errors


def _check_kind(source: Source, folder: Path, read: dict[str, Any], pointer: str) -> list[FieldError]:
    if "peft_type" in read:
        message = f"The model {source.model_id} is an adapter from elsewhere; register the model it belongs to."
        return [FieldError(pointer, message)]
    if "quantization_config" in read:
        message = (
            f"The model {source.model_id} is quantised, and rounded weights cannot be trained on: name what it was."
        )
        return [FieldError(pointer, message)]
    architectures = read.get("architectures") or []
    if architectures and not any("CausalLM" in a or "LMHead" in a or "Conditional" in a for a in architectures):
        message = f"The model {source.model_id} ({', '.join(architectures)}) does not generate text."
        return [FieldError(pointer, message)]
    from paddock.post_training import light_tokenizer  # and with it a template engine

    if not light_tokenizer.is_in(folder):
        return [FieldError(pointer, f"The model {source.model_id} cannot be trained: its folder holds no tokenizer.")]
    if light_tokenizer.LightTokenizer(folder).chat_template is None:
        message = (
            f"The tokenizer of the model {source.model_id} has no chat template, which rows are turned into text by."
        )
        return [FieldError(pointer, message)]
    return []


def max_positions(read: dict[str, Any]) -> int | None:
    """The most tokens that a model's configuration speaks of."""
    text = read.get("text_config") or read
    limit = text.get("max_position_embeddings") or text.get("n_positions")
    return limit if isinstance(limit, int) else None


def sequence_limit(read: dict[str, Any], asked: int | None) -> int:
    """Tokens that rows are cut to: as asked, or the smaller of the model's limit and 2048."""
    return asked or min(max_positions(read) or DEFAULT_MAX_SEQ_LEN, DEFAULT_MAX_SEQ_LEN)


def adapter_config(adapter: Path, model_id: str) -> dict[str, Any]:
    """PEFT's configuration of an adapter. Raises `InvalidRequestError` if it is gone."""
    return hub.read_config(adapter, model_id)


def _lora_pointer(config: Config) -> str:
    return _LORA_POINTERS["sft" if config.preference is None else "dpo"]


def _check_qat(source: Source, shapes: dict[str, tuple[int, int]], read: dict[str, Any], qat: Qat) -> list[FieldError]:
    if read.get("model_type") in modules.WITHOUT_LINEAR_LAYERS:
        message = f"The model {source.model_id} has no linear layers of a kind that can be quantised."
        return [FieldError("/algorithm_config", message)]
    unfit = modules.inputs_that_groups_do_not_divide(shapes, qat.group_size)
    if not unfit:
        return []
    sizes = ", ".join(str(size) for size in sorted(unfit))
    return [FieldError("/algorithm_config/group_size", f"must divide the inputs of every linear layer: {sizes}.")]


def _check_lora(
    source: Source, shapes: dict[str, tuple[int, int]], read: dict[str, Any], lora: Lora, pointer: str
) -> list[FieldError]:
    targets, errors = modules.lora_targets(shapes, lora, pointer)
    if lora.output and read.get("tie_word_embeddings") is True and not errors:
        message = "The model's output layer is tied to its embeddings, which an adapter on it would change when merged."
        errors.append(FieldError(f"{pointer}/apply_lora_to_output", message))
    widest = max((min(shapes[name]) for name in shapes if modules.is_target(name, targets)), default=None)
    if widest is not None and lora.rank > widest and not errors:
        message = f"must be at most {widest}: no matrix that is adapted has a higher rank."
        errors.append(FieldError(f"{pointer}/rank", message))
    if source.adapter is None or errors:
        return errors
    present = adapter_config(source.adapter, source.model_id)
    asked = {"r": lora.rank, "lora_alpha": lora.alpha, "use_dora": lora.use_dora, "target_modules": targets}
    there = {
        "r": present["r"],
        "lora_alpha": present["lora_alpha"],
        "use_dora": present["use_dora"],
        "target_modules": sorted(present["target_modules"]),
    }
    if asked != there:
        differing = ", ".join(f"{name} is {there[name]}" for name in asked if asked[name] != there[name])
        message = (
            f"The model {source.model_id} is an adapter, whose training goes on only in its own shape: {differing} there. "
            "Ask for the same, or fold it into the whole weights by a fine-tuning without algorithm_config."
        )
        errors.append(FieldError(pointer, message))
    return errors

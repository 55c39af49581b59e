"""What a model is, as its files on this machine say: headers of weights, configuration, model card. Loads no tensors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from paddock import hub, wire
from paddock.errors import InvalidRequestError
from paddock.inference.engine import Model
from paddock.inference.engine_messages import LocalModel
from paddock.inference.inference import LOCAL
from paddock.inference.local_models import model_files
from paddock.inference.schemas import ModelProfile

_FLOAT32_BYTES, _BFLOAT16_BYTES = 4, 2


def profile(model: Model, checkpoint_root: Path) -> ModelProfile:
    """All that is known of `model`. Raises `InvalidRequestError` for files that are no model's."""
    known = ModelProfile(
        model_id=model.model_id,
        provider_id=model.provider_id,
        job_id=model.job_id,
        base_model=model.metadata.get("base_model") or model.base_model,
        is_here=False,
    )
    if model.provider_id != LOCAL:
        return known
    local = LocalModel.of(model, checkpoint_root)
    found = hub.file_on_disk(local.weights, "config.json") or hub.file_on_disk(local.weights, "adapter_config.json")
    if found is None:
        return known
    base = found.parent
    adapter = None if local.adapter is None else Path(local.adapter)
    config = hub.read_config(base, model.model_id)
    weights = _parameters_by_type(base, model.model_id)
    num_bytes = model_files.num_bytes(base)
    of_adapter = Counter[str]() if adapter is None else _parameters_by_type(adapter, model.model_id)
    num_adapter_bytes = 0 if adapter is None else model_files.num_bytes(adapter)
    num_all = weights.total() + of_adapter.total()
    # Rounded weights stay as they are; of others the engine makes float32 on a CPU, and bfloat16 of an llm's on a GPU.
    is_rounded = "quantization_config" in config
    as_stored = num_bytes + num_adapter_bytes
    # A checkpoint's own tokenizer, if it has one, stands for its base's.
    tokenizer = adapter if adapter is not None and (adapter / "tokenizer_config.json").exists() else None
    is_llm = model.model_type == "llm"
    return known.model_copy(
        update={
            "is_here": True,
            "architecture": next(iter(config.get("architectures") or ()), None),
            "num_parameters": weights.total(),
            "num_adapter_parameters": None if adapter is None else of_adapter.total(),
            "dtype": weights.most_common(1)[0][0] if weights else None,
            "num_file_bytes": as_stored,
            "cpu_memory_bytes": as_stored if is_rounded else num_all * _FLOAT32_BYTES,
            "gpu_memory_bytes": num_all * _BFLOAT16_BYTES if is_llm and not is_rounded else as_stored,
            "context": _context(config),
            "has_chat_template": _has_chat_template(tokenizer or base),
            "reads_images": model_files.reads_images(base),
            "licence": _licence(base),
        }
    )


def _parameters_by_type(folder: Path, model_id: str) -> Counter[str]:
    from huggingface_hub import parse_local_safetensors_file_metadata
    from huggingface_hub.errors import SafetensorsParsingError

    counts = Counter[str]()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            counts.update(parse_local_safetensors_file_metadata(file).parameter_count)
        except (SafetensorsParsingError, OSError, ValueError):
            raise InvalidRequestError(f"The weights of the model {model_id} are no safetensors.") from None
    return counts


def _context(config: dict[str, Any]) -> int | None:
    text = config.get("text_config") or config
    limit = text.get("max_position_embeddings") or text.get("n_positions")
    return limit if isinstance(limit, int) else None


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return bool(wire.from_json((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _licence(folder: Path) -> str | None:
    """What the head of a model card names; several are told one after the other."""
    from huggingface_hub import ModelCard

    try:
        data = ModelCard((folder / "README.md").read_text(), ignore_metadata_errors=True).data
    except (OSError, ValueError):
        return None
    named = data.get("license_name") or data.get("license")
    return ", ".join(map(str, named)) if isinstance(named, list) else named and str(named)

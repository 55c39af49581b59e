"""From what a request names to the folders with a model's files: the base's, and the adapter's over it.

Runs in the engine process, since a hub id may have to be downloaded first; reads no weights.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock import hub, wire
from paddock.errors import InvalidRequestError
from paddock.inference.engine_messages import LocalModel


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies. `config` is the base's `config.json`."""

    base: Path
    config: dict[str, Any]
    adapter: Path | None

    @property
    def architecture(self) -> str:
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else ""


def find(model: LocalModel) -> ModelFiles:
    """The files of `model`, downloaded if need be. Raises `InvalidRequestError` naming the model, never its folder."""
    try:
        return _find(model)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.detail, pointer="/model") from None


def _find(model: LocalModel) -> ModelFiles:
    base = _folder(model.weights, model.model_id)
    adapter = None if model.adapter is None else Path(model.adapter)
    config = hub.read_config(base, model.model_id)
    if adapter is None and not (base / "config.json").exists():
        # The folder of an adapter, which names its base itself.
        adapter, name = base, config.get("base_model_name_or_path")
        if not isinstance(name, str):
            raise InvalidRequestError(f"The model {model.model_id} is an adapter that does not name its base model.")
        base = _folder(name, model.model_id)
        config = hub.read_config(base, model.model_id)
    if adapter is not None:
        _check_adapter(adapter, model.model_id)
    return ModelFiles(base, config, adapter)


def _folder(name: str, model_id: str) -> Path:
    if Path(name).is_absolute():
        hub.read_config(Path(name), model_id)
        return Path(name)
    return _fetched(name)


# A hub id is asked for once in a process's life: asking again would ask the hub, at every request.
_fetched = functools.cache(hub.fetch)


def _check_adapter(adapter: Path, model_id: str) -> None:
    config = hub.read_config(adapter, model_id)
    if not (adapter / "adapter_model.safetensors").exists():
        raise InvalidRequestError(f"The model {model_id} cannot be loaded: its adapter is not stored as safetensors.")
    if config.get("peft_type") != "LORA":
        raise InvalidRequestError(
            f"The model {model_id} is an adapter of the kind {config.get('peft_type')}; adapters of the kind LORA are "
            "supported."
        )


def reads_images(folder: Path) -> bool:
    """Whether a model comes with what makes numbers of images; it may, where `folder` is an adapter's, whose base is
    elsewhere."""
    files = ("processor_config.json", "preprocessor_config.json")
    return not (folder / "config.json").exists() or any((folder / name).exists() for name in files)


def is_cross_encoder(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the model in `folder`, whose `config.json` is `config`, reads pairs of texts: by its architecture, or because
    it says so to sentence-transformers, as language models that answer yes or no do."""
    declaration = folder / "config_sentence_transformers.json"
    declared = wire.from_json(declaration.read_bytes()) if declaration.exists() else {}
    architectures = config.get("architectures") or [""]
    return declared.get("model_type") == "CrossEncoder" or architectures[0].endswith("ForSequenceClassification")


def stamp(folder: Path) -> int:
    """Changes when the weights in a folder do: what was loaded from it is then no longer the model that it names."""
    return max((file.stat().st_mtime_ns for file in folder.glob("*.safetensors")), default=0)


def num_bytes(folder: Path) -> int:
    """The size of a folder's weights on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

"""From a model's name to its files on this machine. Loads no tensors: weights are read where the work is.

A name is a folder or a hub id (`organisation/name`). Weights are safetensors; pickles and code from a model's folder
are refused, here and again where models are loaded.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

from paddock import wire
from paddock.errors import InvalidRequestError
from paddock.settings import Settings

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")

_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What is fetched from a hub: configuration, tokenizer, safetensors. No pickles, no code."""


def named(settings: Settings) -> list[str]:
    """The hub ids that `hub_models` names one by one."""
    return [name for name in settings.hub_models if _HUB_ID.fullmatch(name) is not None]


def is_allowed(name: str, settings: Settings) -> bool:
    """Whether a model may be named without being registered: a folder below `model_roots`, or a hub id that matches
    `hub_models`."""
    if Path(name).is_absolute():
        if "\0" in name:
            return False
        folder = Path(name).resolve()
        return any(folder.is_relative_to(root.expanduser().resolve()) for root in settings.model_roots)
    return _HUB_ID.fullmatch(name) is not None and any(fnmatch.fnmatchcase(name, p) for p in settings.hub_models)


def check_name(name: str) -> None:
    """Raise `InvalidRequestError` unless `name` is a model's folder that can be read, or has the form of a hub id.

    Whether a hub id exists is known only once it is fetched; a job says so in its status."""
    if Path(name).is_absolute():
        read_config(Path(name), name)
    elif _HUB_ID.fullmatch(name) is None:
        raise InvalidRequestError(
            f"The model {name!r} is neither an absolute folder nor a hub id like organisation/name."
        )


def fetch(name: str) -> Path:
    """The folder with the model's files, downloaded into the hub's cache if need be. Raises `InvalidRequestError`."""
    if Path(name).is_absolute():
        read_config(Path(name), name)
        return Path(name)
    check_name(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InvalidRequestError(
            f"The model {name} is not in the local cache and cannot be fetched from the hub ({type(error).__name__})."
        ) from error


def file_on_disk(name: str, file: str) -> Path | None:
    """A file of a model that is on this machine, in its folder or the hub's cache, or None. Nothing is fetched."""
    if Path(name).is_absolute():
        found = Path(name) / file
        return found if found.is_file() else None
    if _HUB_ID.fullmatch(name) is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, file)
    return Path(cached) if isinstance(cached, str) else None


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """A model's `config.json`, or an adapter's `adapter_config.json`. Raises `InvalidRequestError` naming the model."""
    for file in ("config.json", "adapter_config.json"):
        try:
            config = wire.from_json((folder / file).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            raise InvalidRequestError(f"The model {name} cannot be loaded: its {file} is not readable JSON.") from None
        if not isinstance(config, dict):
            raise InvalidRequestError(f"The model {name} cannot be loaded: its {file} is not an object.")
        if not any(folder.glob("*.safetensors")):
            raise InvalidRequestError(f"The model {name} cannot be loaded: its folder holds no safetensors weights.")
        return config
    raise InvalidRequestError(f"The model {name} cannot be loaded: its folder has no config.json.")

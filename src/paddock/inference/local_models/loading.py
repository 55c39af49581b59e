"""Which models are in the engine's memory: loaded on first use, and let go, the least recently used first, when the
next one would take all together over half of the device's memory."""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.local_models import model_files
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.likelihood_reranker import LikelihoodReranker
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.ranking import Reranker
from paddock.settings import Settings

log = logging.getLogger("paddock.engine")

SHARE_OF_MEMORY = 0.5

_SEEING_ARCHITECTURES = frozenset(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
_GENERATING_ARCHITECTURES = _SEEING_ARCHITECTURES | frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())

_PATH = re.compile(r"(?:/[\w.+-]+){2,}/?")

Loaded = TypeVar("Loaded")


class LoadedModels:
    """The models in memory, on one device: float32 on a CPU, bfloat16 on a GPU."""

    def __init__(self, settings: Settings) -> None:
        """Raises `BackendError` if the settings ask for a GPU and there is none."""
        has_gpu = torch.cuda.is_available()
        if settings.device == "cuda" and not has_gpu:
            raise BackendError("The setting `device` is `cuda`, and torch finds no such device here.")
        is_cuda = has_gpu and settings.device != "cpu"
        self._device = "cuda" if is_cuda else "cpu"
        self._dtype = torch.bfloat16 if is_cuda else torch.float32
        memory = torch.cuda.mem_get_info()[1] if is_cuda else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._budget_bytes = int(memory * SHARE_OF_MEMORY)
        self._loaded: OrderedDict[tuple[Path, int, str], tuple[Any, int]] = OrderedDict()

    def language_model(self, model_id: str, files: ModelFiles) -> LanguageModel:
        """Raises `InvalidRequestError` if this is not a causal language model, or cannot be loaded."""
        if files.architecture not in _GENERATING_ARCHITECTURES:
            raise InvalidRequestError(
                f"The model {model_id} ({files.architecture or 'of no named architecture'}) does not generate text.",
                pointer="/model",
            )
        sees = files.architecture in _SEEING_ARCHITECTURES
        # Rounded weights compute in the type that they were rounded for.
        dtype = "auto" if "quantization_config" in files.config else self._dtype
        weights = self._get(model_id, files.base, lambda: Weights(files.base, self._device, dtype, sees=sees))
        variant = _load(model_id, lambda: weights.variant(files.adapter))
        return LanguageModel(model_id, weights, variant)

    def reranker(self, model_id: str, files: ModelFiles, precision: str = "fp32") -> Reranker:
        """Raises `InvalidRequestError` if the model cannot rank, or cannot be loaded."""
        if files.architecture in _GENERATING_ARCHITECTURES and not model_files.is_cross_encoder(
            files.base, files.config
        ):
            if precision != "fp32":
                raise InvalidRequestError(
                    f"The model {model_id} ranks as a language model; `precision` is a choice for encoders.",
                    pointer="/model",
                )
            return LikelihoodReranker(self.language_model(model_id, files))
        # Here and not above: sentence-transformers takes two seconds that chat and evaluation need not wait for.
        from paddock.inference.local_models.rerankers import load_encoder

        load = functools.partial(load_encoder, files.base, files.config, self._device, precision)
        return self._get(model_id, files.base, load, precision)

    def _get(self, model_id: str, folder: Path, load: Callable[[], Loaded], form: str = "") -> Loaded:
        key = (folder, model_files.stamp(folder), form)
        if key in self._loaded:
            self._loaded.move_to_end(key)
        else:
            # Two bytes a weight on disk become four on a CPU; where they are four already, this errs to the safe side.
            num_bytes = model_files.num_bytes(folder) * (2 if self._device == "cpu" else 1)
            self._make_room(num_bytes)
            log.info("Loading %s (%d MiB at most).", model_id, num_bytes >> 20)
            self._loaded[key] = _load(model_id, load), num_bytes
        loaded: Loaded = self._loaded[key][0]
        return loaded

    def _make_room(self, num_bytes: int) -> None:
        while self._loaded and sum(size for _, size in self._loaded.values()) + num_bytes > self._budget_bytes:
            (folder, _, _), _ = self._loaded.popitem(last=False)
            log.info("Letting go of %s to make room.", folder)
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()


def _load(model_id: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise BackendError(f"The model {model_id} does not fit into this machine's memory.") from error
    except Exception as error:  # the libraries raise whatever they meet in a file that is not as they expect
        log.exception("%s cannot be loaded.", model_id)
        reason = _PATH.sub("…", str(error).partition("\n")[0])[:300] or type(error).__name__
        raise InvalidRequestError(f"The model {model_id} cannot be loaded: {reason}", pointer="/model") from error

"""From a model's id to the engine that serves it. The one object through which the other slices use models."""

from __future__ import annotations

from pathlib import Path

from paddock import hub
from paddock.errors import InvalidRequestError, NotFoundError
from paddock.inference.engine import Engine, Model
from paddock.inference.store import ModelStore
from paddock.settings import Settings

LOCAL = "local"
"""The provider that is always there: transformers and sentence-transformers in the engine process."""


class Inference:
    """All models of this server, and the engines behind them, one a provider."""

    def __init__(self, settings: Settings, models: ModelStore, engines: dict[str, Engine]) -> None:
        self._settings = settings
        self.models = models
        self._engines = engines

    @property
    def providers(self) -> list[str]:
        return list(self._engines)

    def find(self, model_id: str) -> Model:
        """The model that a request names: a registered id, a checkpoint's identifier, or a hub id or folder that the
        configuration allows. Raises `NotFoundError`."""
        model = self.models.find(model_id)
        if model is not None:
            return model
        if hub.is_allowed(model_id, self._settings):
            return Model(model_id, LOCAL, model_id)
        raise NotFoundError(
            f"There is no model {model_id!r}: it is neither registered nor a checkpoint, and the settings "
            "`hub_models` and `model_roots` do not allow it."
        )

    def find_for(self, model_id: str, pointer: str) -> Model:
        """`find` for an id in a body or the query: raises `InvalidRequestError` with its pointer."""
        try:
            return self.find(model_id)
        except NotFoundError as error:
            raise InvalidRequestError(error.detail, pointer=pointer) from None

    def engine(self, model: Model) -> Engine:
        """The engine that serves a model. Raises `InvalidRequestError` if its provider is no longer configured."""
        engine = self._engines.get(model.provider_id)
        if engine is None:
            raise InvalidRequestError(
                f"The model {model.model_id} belongs to the provider {model.provider_id}, which is not configured.",
                pointer="/model",
            )
        return engine

    def tokenizer_file(self, model_id: str) -> Path:
        """The `tokenizer.json` of a model that the query parameter `tokenizer` names. Raises `InvalidRequestError` for an
        unknown model, and for one whose tokenizer is not on this machine."""
        model = self.find_for(model_id, "tokenizer")
        for folder in self.engine(model).folders(model):
            file = hub.file_on_disk(folder, "tokenizer.json")
            if file is not None:
                return file
        raise InvalidRequestError(
            f"The tokenizer of {model_id} is not on this machine: name a local model with a tokenizer.json, which one of "
            "the hub has once it was used.",
            pointer="tokenizer",
        )

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.close()

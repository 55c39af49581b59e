"""Giving a model an id: what the request names is checked, then kept. For the route and for the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paddock import hub, wire
from paddock.errors import FieldError, InvalidRequestError
from paddock.inference.engine import Model
from paddock.inference.engine_messages import PRECISION, PRECISIONS
from paddock.inference.inference import LOCAL, Inference
from paddock.inference.schemas import RegisterModelRequest
from paddock.settings import Settings


def register(inference: Inference, settings: Settings, request: RegisterModelRequest) -> Model:
    """Keep a model that a client names: of a remote provider, or a local one that the settings `model_roots` and
    `hub_models` allow. The same again is fine.

    Raises `InvalidRequestError` for what is unknown, not allowed or not a model, and `ConflictError` if there is
    another model under the id."""
    model = _model(inference, request)
    name = model.provider_model_id
    if model.provider_id == LOCAL:
        if not hub.is_allowed(name, settings):
            raise InvalidRequestError(
                f"The model {name} is neither in a folder that the setting `model_roots` names nor a hub id that "
                "`hub_models` allows.",
                pointer="/provider_model_id",
            )
        _check_name(name)
    return inference.models.register(model)


def register_entry(inference: Inference, entry: Mapping[str, Any], *, replace: bool = False) -> Model:
    """Keep the model of a configuration entry, which has the shape of the route's body. It may lie in any folder.

    Raises as `register` does; a different model under the id is no conflict if it is to `replace` that."""
    try:
        # YAML reads an unquoted 2024-01-31 as a date; JSON gives the text back.
        request = RegisterModelRequest.model_validate(wire.from_json(wire.to_json(dict(entry))))
    except ValidationError as error:
        fields = [FieldError("".join(f"/{part}" for part in e["loc"]), e["msg"]) for e in error.errors()]
        detail = "; ".join(f"{field.pointer}: {field.message}" for field in fields)
        raise InvalidRequestError(f"A model's entry cannot be used: {detail}", errors=tuple(fields)) from None
    model = _model(inference, request)
    if model.provider_id == LOCAL:
        _check_name(model.provider_model_id)
    return inference.models.register(model, replace=replace)


def _model(inference: Inference, request: RegisterModelRequest) -> Model:
    provider_id = request.provider_id or LOCAL
    if provider_id not in inference.providers:
        known = ", ".join(inference.providers)
        raise InvalidRequestError(f"There is no provider {provider_id!r}; there are {known}.", pointer="/provider_id")
    name = request.provider_model_id or request.model_id
    if provider_id == LOCAL and name.startswith("~"):
        name = str(Path(name).expanduser())
    if provider_id == LOCAL:
        _check_precision(request)
    return Model(request.model_id, provider_id, name, request.model_type, request.metadata or {})


def _check_precision(request: RegisterModelRequest) -> None:
    precision = (request.metadata or {}).get(PRECISION)
    if precision is None:
        return
    pointer = f"/metadata/{PRECISION}"
    if precision not in PRECISIONS:
        raise InvalidRequestError(f"`precision` is one of {', '.join(PRECISIONS)}.", pointer=pointer)
    if request.model_type != "rerank":
        raise InvalidRequestError("`precision` is a choice for models of the type `rerank`.", pointer=pointer)


def _check_name(name: str) -> None:
    try:
        hub.check_name(name)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.detail, pointer="/provider_model_id") from None

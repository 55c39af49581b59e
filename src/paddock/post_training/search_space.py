"""What a hyperparameter search varies: whether its space fits the request, the requests at the ends of it, which are
checked before the search starts, and the requests of its trials. Knows no Optuna and no tensors."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from paddock.errors import FieldError, InvalidRequestError
from paddock.post_training.schemas import DataConfig, PreferenceOptimizeRequest, SupervisedFineTuneRequest
from paddock.post_training.search_config import MAX_GRID, MAX_TRIALS, Params, SearchConfig, pointer_of
from paddock.post_training.trial_store import trial_id
from paddock.wire import escape_pointer, ignored_fields

PLACE = "/hyperparam_search_config"

_SECTIONS = ("training_config", "algorithm_config")
_DATA = "/training_config/data_config"
_FIXED = (f"{_DATA}/dataset_id", f"{_DATA}/validation_dataset_id")
_MEASURES = (
    "/training_config/max_validation_steps",
    "/training_config/max_seq_len",
    f"{_DATA}/data_format",
    f"{_DATA}/train_on_input",
    "/algorithm_config/beta",
    "/algorithm_config/loss_type",
)
"""Fields that change what a validation loss is: trials that differ in them are not to be compared by it."""

Request = TypeVar("Request", SupervisedFineTuneRequest, PreferenceOptimizeRequest)


def read(request: SupervisedFineTuneRequest | PreferenceOptimizeRequest) -> SearchConfig | None:
    """The search that a request asks for, None for `{}`. Raises `InvalidRequestError` naming all that is wrong with it
    in itself; what is wrong with the values that it tries is told by checking `variants`."""
    if not request.hyperparam_search_config:
        return None
    try:
        search = SearchConfig.model_validate(request.hyperparam_search_config)
    except ValidationError as error:
        raise _refusal([FieldError(_place(e["loc"]), _message(e)) for e in error.errors()]) from None
    errors = [*_wrong_fields(search, request), *_wrong_objective(search, request)]
    if search.sampler.type == "grid":
        errors += _wrong_grid(search)
    if importlib.util.find_spec("optuna") is None:
        reason = "needs Optuna, which this server lacks: pip install 'paddock[search]'"
        errors.append(FieldError(PLACE, reason))
    if errors:
        raise _refusal(errors)
    return search


def _wrong_fields(
    search: SearchConfig, request: SupervisedFineTuneRequest | PreferenceOptimizeRequest
) -> Iterator[FieldError]:
    seen: set[str] = set()
    for name, parameter in search.space.items():
        place, pointer = f"{PLACE}/space/{escape_pointer(name)}", pointer_of(name)
        if pointer in seen:
            yield FieldError(place, f"names {pointer} a second time")
        seen.add(pointer)
        if pointer in _FIXED:
            yield FieldError(place, "cannot be searched over: all trials read the same rows")
            continue
        types = _types_at(request, pointer)
        if types is None:
            yield FieldError(
                place, f"names no field of this request: {' and '.join(_SECTIONS)} hold what can be varied"
            )
        elif parameter.type == "float" and float not in types:
            yield FieldError(f"{place}/type", "must be int or categorical: the field takes no fractions")
        elif parameter.type == "int" and not types & {int, float}:
            yield FieldError(f"{place}/type", "must be categorical: the field holds no number")


def _wrong_objective(
    search: SearchConfig, request: SupervisedFineTuneRequest | PreferenceOptimizeRequest
) -> Iterator[FieldError]:
    data = request.training_config.data_config
    has_validation = isinstance(data, DataConfig) and data.validation_dataset_id is not None
    by_loss = search.objective == "validation_loss"
    if by_loss and not has_validation:
        yield FieldError(f"{PLACE}/objective", f"needs validation data: name it in {_DATA}/validation_dataset_id")
    if search.pruning is not None and not has_validation:
        yield FieldError(f"{PLACE}/pruning", f"needs validation data: name it in {_DATA}/validation_dataset_id")
    if not by_loss and search.pruning is None:
        return
    varied = {pointer_of(name): name for name in search.space}
    for pointer in _MEASURES:
        if pointer in varied:
            place = f"{PLACE}/space/{escape_pointer(varied[pointer])}"
            yield FieldError(
                place, "changes what a validation loss is: trials cannot be compared by it, but by a benchmark"
            )
    if f"{_DATA}/batch_size" in varied and request.training_config.max_validation_steps not in (None, -1):
        place = "/training_config/max_validation_steps"
        yield FieldError(place, "must be -1 where a search varies batch_size: it counts batches")


def _wrong_grid(search: SearchConfig) -> Iterator[FieldError]:
    place = f"{PLACE}/sampler/type"
    if math.isinf(search.num_points):
        yield FieldError(place, "the grid needs finitely many values: give every float parameter a step, or choices")
    elif search.num_points > MAX_GRID:
        yield FieldError(
            place, f"the grid has {search.num_points:.0f} points, and at most {MAX_GRID} are listed: use tpe"
        )
    elif search.total > MAX_TRIALS:
        yield FieldError(f"{PLACE}/num_trials", f"must be given: the grid has {search.num_points:.0f} points")


def _types_at(request: BaseModel, pointer: str) -> set[Any] | None:
    """The types that the field at `pointer` takes, None if there is no such field in this request."""
    *sections, name = pointer.lstrip("/").split("/")
    if not sections or sections[0] not in _SECTIONS:
        return None
    found: Any = request
    for section in sections:
        found = getattr(found, section, None) if isinstance(found, BaseModel) else None
    if not isinstance(found, BaseModel) or name not in type(found).model_fields:
        return None
    types = _alternatives(type(found).model_fields[name].annotation)
    is_section = any(isinstance(t, type) and issubclass(t, BaseModel) for t in types)
    return None if is_section else types


def _alternatives(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*(_alternatives(part) for part in get_args(annotation)))
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return {str}
    return {annotation}


def with_params(request: Mapping[str, Any], params: Params, **changes: Any) -> dict[str, Any]:
    """A request (as JSON) with other values in the fields that `params` points to, and other top-level `changes`."""
    changed: dict[str, Any] = copy.deepcopy(dict(request)) | changes
    for pointer, value in params.items():
        *sections, name = pointer.lstrip("/").split("/")
        inner = changed
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return changed


def variants(search: SearchConfig, request: Request) -> list[Request]:
    """The requests at the ends of the space, as those of the last trial: every parameter at its first value, then one
    after the other at each other end. Raises `InvalidRequestError` for values that a field does not take."""
    parameters = search.parameters
    first = {pointer: parameter.ends()[0] for pointer, parameter in parameters.items()}
    points = [first]
    for pointer, parameter in parameters.items():
        points += [first | {pointer: value} for value in parameter.ends()[1:]]
    asked = request.model_dump(mode="json")
    job_uuid = trial_id(request.job_uuid, search.total)
    requests, errors = [], []
    notes = ignored_fields.set(None)
    for params in points:
        tried = with_params(asked, params, job_uuid=job_uuid, hyperparam_search_config={})
        try:
            requests.append(type(request).model_validate(tried))
        except ValidationError as error:
            # The part that names which alternative was tried (`LoRA`) is no part of the place.
            found = [[str(part) for part in e["loc"] if part not in ("LoRA", "QAT")] for e in error.errors()]
            errors += [FieldError("/" + "/".join(loc), e["msg"]) for loc, e in zip(found, error.errors(), strict=True)]
    ignored_fields.reset(notes)
    if errors:
        raise _refusal(blame(search, errors))
    return requests


def blame(search: SearchConfig, errors: Iterable[FieldError]) -> list[FieldError]:
    """What is wrong with variants, each thing once, at the place in the space that brought the value."""
    names = {pointer_of(name): name for name in search.space}
    found: dict[FieldError, None] = {}
    for error in errors:
        pointer = next((p for p in names if error.pointer == p or error.pointer.startswith(f"{p}/")), None)
        place = error.pointer if pointer is None else f"{PLACE}/space/{escape_pointer(names[pointer])}"
        found[FieldError(place, error.message)] = None
    return list(found)


def _place(loc: tuple[str | int, ...]) -> str:
    """A JSON pointer; pydantic's names for the alternative that it tried are no part of it."""
    parts = [str(part) for part in loc]
    if parts[:1] == ["space"] and parts[2:3] in (["float"], ["int"], ["categorical"]):
        del parts[2]
    if parts[:1] == ["objective"]:
        parts = [part for part in parts if not part.startswith(("literal[", "BenchmarkObjective"))]
    return PLACE + "".join(f"/{escape_pointer(part)}" for part in parts)


def _message(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _refusal(errors: list[FieldError]) -> InvalidRequestError:
    detail = "; ".join(f"{error.pointer}: {error.message.removesuffix('.')}" for error in errors)
    return InvalidRequestError(detail, errors=tuple(errors))

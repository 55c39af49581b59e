"""Registering benchmarks and scoring functions, with what they name checked. For the routes and for the configuration,
whose entries have the shape of the routes' bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from paddock.datasets.store import DatasetStore
from paddock.errors import FieldError, InvalidRequestError
from paddock.evaluation import asking, calibration, function_store
from paddock.evaluation.benchmark_store import StoredBenchmark
from paddock.evaluation.extension_schemas import RegisterBenchmarkRequest, RegisterScoringFunctionRequest
from paddock.evaluation.function_store import PROVIDER_ID, RegisteredFunction
from paddock.evaluation.plan import FunctionRun, language_model
from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams
from paddock.evaluation.store import EvaluationStore
from paddock.inference.inference import Inference
from paddock.wire import RequestBody, escape_pointer, ignored_fields

AnyRequest = TypeVar("AnyRequest", bound=RequestBody)


def register_benchmark(
    evaluation: EvaluationStore, datasets: DatasetStore, request: RegisterBenchmarkRequest, *, replace: bool = False
) -> StoredBenchmark:
    """Keep a benchmark. The same again is fine. Raises `InvalidRequestError` for a dataset or a function that there is
    not, and `ConflictError` if there is another benchmark under the id, unless it is to `replace` that."""
    new = StoredBenchmark(
        benchmark_id=request.benchmark_id,
        provider_id=request.provider_id or PROVIDER_ID,
        provider_benchmark_id=request.provider_benchmark_id,
        dataset_id=request.dataset_id,
        scoring_functions=tuple(request.scoring_functions),
        metadata=request.metadata or {},
    )
    calibration.named_in(new.metadata)
    asking.named_in(new.metadata)
    with evaluation.database.write() as connection:
        # In the transaction that stores their names, so that they are still there when it ends.
        if datasets.find(new.dataset_id, connection) is None:
            raise InvalidRequestError(f"There is no dataset {new.dataset_id!r}.", pointer="/dataset_id")
        for index, function_id in enumerate(new.scoring_functions):
            if evaluation.functions.define(function_id, connection) is None:
                detail = function_store.not_found(function_id).detail
                raise InvalidRequestError(detail, pointer=f"/scoring_functions/{index}")
        return evaluation.benchmarks.register(connection, new, replace=replace)


def register_scoring_function(
    evaluation: EvaluationStore, inference: Inference, request: RegisterScoringFunctionRequest, *, replace: bool = False
) -> RegisteredFunction:
    """Keep a scoring function. The same again is fine. Raises `InvalidRequestError` for parameters that cannot be right,
    and `ConflictError` if there is another function under the id, unless it is to `replace` that."""
    function = RegisteredFunction(
        scoring_fn_id=request.scoring_fn_id,
        provider_id=request.provider_id or PROVIDER_ID,
        provider_scoring_fn_id=request.provider_scoring_fn_id,
        description=request.description,
        return_type=request.return_type.model_dump(),
        params=None if request.params is None else request.params.model_dump(mode="json"),
    )
    if isinstance(request.params, LLMAsJudgeScoringFnParams):
        language_model(request.params.judge_model, inference, "/params/judge_model")
    definition = function_store.defined(function)
    FunctionRun(function.scoring_fn_id, definition.kind, definition.defaults, None).scorer("/params")
    return evaluation.functions.register(function, replace=replace)


def register_benchmark_entry(
    evaluation: EvaluationStore, datasets: DatasetStore, entry: Mapping[str, Any], *, replace: bool = False
) -> StoredBenchmark:
    """Keep the benchmark of a configuration entry. Raises as `register_benchmark` does."""
    return register_benchmark(evaluation, datasets, _parsed(RegisterBenchmarkRequest, entry), replace=replace)


def register_scoring_function_entry(
    evaluation: EvaluationStore, inference: Inference, entry: Mapping[str, Any], *, replace: bool = False
) -> RegisteredFunction:
    """Keep the scoring function of a configuration entry. Raises as `register_scoring_function` does."""
    request = _parsed(RegisterScoringFunctionRequest, entry)
    return register_scoring_function(evaluation, inference, request, replace=replace)


def _parsed(schema: type[AnyRequest], entry: Mapping[str, Any]) -> AnyRequest:
    """A configuration entry as a request. A key that nothing reads is refused, as in all of the configuration."""
    unread: list[str] = []
    token = ignored_fields.set(unread)
    try:
        request = schema.model_validate(dict(entry))
    except ValidationError as error:
        fields = tuple(
            FieldError("".join(f"/{escape_pointer(str(part))}" for part in e["loc"]), e["msg"]) for e in error.errors()
        )
        raise InvalidRequestError("; ".join(f"{f.pointer}: {f.message}" for f in fields), errors=fields) from None
    finally:
        ignored_fields.reset(token)
    if unread:
        raise InvalidRequestError(
            f"Nothing reads {', '.join(unread)}.",
            errors=tuple(FieldError(pointer, "nothing reads this") for pointer in unread),
        )
    return request

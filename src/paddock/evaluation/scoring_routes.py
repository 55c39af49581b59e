"""Scoring functions over HTTP, and scoring of answers that are there already. Extensions that official clients call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from paddock import routing
from paddock.errors import InvalidRequestError
from paddock.evaluation import function_store, plan, registration, scoring
from paddock.evaluation.answer import Collected
from paddock.evaluation.benchmark_routes import Datasets, Evaluation
from paddock.evaluation.evaluate import Todo, evaluate
from paddock.evaluation.extension_schemas import (
    ListScoringFunctionsResponse,
    RegisterScoringFunctionRequest,
    ReturnType,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
    ScoreResponse,
    ScoringFn,
    ScoringFunctionChoice,
)
from paddock.evaluation.function_store import PROVIDER_ID, RegisteredFunction
from paddock.evaluation.plan import Plan
from paddock.evaluation.prompts import UnreadableRowError, generated_answer
from paddock.evaluation.schemas import ScoringResult
from paddock.evaluation.store import EvaluationStore
from paddock.inference.inference import Inference
from paddock.routing import PathId
from paddock.settings import Settings
from paddock.wire import escape_pointer

router = routing.router("Scoring")


Models = Annotated[Inference, routing.held("inference")]
TheSettings = Annotated[Settings, routing.held("settings")]


@router.get("/v1/scoring-functions", openapi_extra=routing.EXTENSION)
def list_scoring_functions(evaluation: Evaluation) -> ListScoringFunctionsResponse:
    """List all scoring functions: those that come with Paddock, then those that users registered."""
    own = [_built_in(function_id) for function_id in scoring.SCORING_FUNCTIONS]
    return ListScoringFunctionsResponse(data=own + [_registered(function) for function in evaluation.functions.list()])


@router.get("/v1/scoring-functions/{scoring_fn_id:path}", openapi_extra=routing.EXTENSION)
def get_scoring_function(evaluation: Evaluation, scoring_fn_id: PathId) -> ScoringFn:
    """Get a scoring function by its ID."""
    if scoring_fn_id in scoring.SCORING_FUNCTIONS:
        return _built_in(scoring_fn_id)
    function = evaluation.functions.find(scoring_fn_id)
    if function is None:
        raise function_store.not_found(scoring_fn_id)
    return _registered(function)


@router.post("/v1/scoring-functions", openapi_extra=routing.EXTENSION)
def register_scoring_function(
    evaluation: Evaluation, inference: Models, body: RegisterScoringFunctionRequest
) -> ScoringFn:
    """Register a scoring function: one that comes with Paddock, with parameters of its own. The same again is fine."""
    return _registered(registration.register_scoring_function(evaluation, inference, body))


@router.delete("/v1/scoring-functions/{scoring_fn_id:path}", openapi_extra=routing.EXTENSION)
def unregister_scoring_function(evaluation: Evaluation, scoring_fn_id: PathId) -> None:
    """Remove a registered scoring function, unless a benchmark names it."""
    evaluation.functions.remove(scoring_fn_id)


@router.post("/v1/scoring/score", openapi_extra=routing.EXTENSION)
async def score(
    request: Request, evaluation: Evaluation, inference: Models, settings: TheSettings, body: ScoreRequest
) -> ScoreResponse:
    """Score a list of rows that have their `generated_answer`."""
    check_num_rows(len(body.input_rows), settings, "/input_rows")
    resolved = await run_in_threadpool(_resolve, body.scoring_functions, evaluation, inference)
    return ScoreResponse(results=await routing.while_connected(request, _score(body.input_rows, resolved, inference)))


@router.post("/v1/scoring/score-batch", openapi_extra=routing.EXTENSION)
async def score_batch(
    request: Request,
    evaluation: Evaluation,
    datasets: Datasets,
    inference: Models,
    settings: TheSettings,
    body: ScoreBatchRequest,
) -> ScoreBatchResponse:
    """Score the rows of a dataset that have their `generated_answer`."""
    if body.save_results_dataset:
        raise InvalidRequestError(
            "The scores are in the answer and are not kept as a dataset: send `save_results_dataset: false`.",
            pointer="/save_results_dataset",
        )
    dataset = await run_in_threadpool(datasets.get_for, body.dataset_id, "/dataset_id")
    check_num_rows(dataset.num_rows, settings, "/dataset_id")
    resolved = await run_in_threadpool(_resolve, body.scoring_functions, evaluation, inference)
    rows = await run_in_threadpool(lambda: list(datasets.read(datasets.version(dataset))))
    return ScoreBatchResponse(results=await routing.while_connected(request, _score(rows, resolved, inference)))


def check_num_rows(num_rows: int, settings: Settings, pointer: str) -> None:
    """Raise `InvalidRequestError` unless a request may have so many rows evaluated while its client waits."""
    if num_rows == 0:
        raise InvalidRequestError("There are no rows.", pointer=pointer)
    if num_rows > settings.max_evaluate_rows:
        raise InvalidRequestError(
            f"{num_rows} rows are more than the {settings.max_evaluate_rows} (`max_evaluate_rows`) that one request has "
            "evaluated while it waits. Put them into a dataset and run a benchmark on it as a job: "
            "POST /v1alpha/eval/benchmarks/{benchmark_id}/jobs.",
            pointer=pointer,
        )


def _resolve(chosen: ScoringFunctionChoice, evaluation: EvaluationStore, inference: Inference) -> Plan:
    functions = plan.resolve_functions(
        list(chosen),
        chosen,
        evaluation.functions,
        inference,
        pointer="/scoring_functions",
        functions_pointer="/scoring_functions",
    )
    for run in functions:
        if run.compares_likelihoods:
            raise InvalidRequestError(
                f"{run.function_id} scores no answer that is there already, but how likely a model finds each choice: run a "
                "benchmark with it.",
                pointer=f"/scoring_functions/{escape_pointer(run.function_id)}",
            )
    return Plan(None, functions)


async def _score(rows: Sequence[Mapping[str, Any]], resolved: Plan, inference: Inference) -> dict[str, ScoringResult]:
    collected = Collected(resolved, len(rows))
    todos = (Todo(index, row, _answer_of(row), resolved.function_ids) for index, row in enumerate(rows))
    await evaluate(todos, resolved, inference, collected.add)
    return await run_in_threadpool(collected.scores)


def _answer_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return {"generated_answer": generated_answer(row)}
    except UnreadableRowError as error:
        return {"generated_answer": None, "error": str(error)}


def _built_in(function_id: str) -> ScoringFn:
    function = scoring.SCORING_FUNCTIONS[function_id]
    return ScoringFn(
        identifier=function_id,
        provider_resource_id=function_id,
        provider_id=PROVIDER_ID,
        description=function.description,
        return_type=ReturnType.model_validate({"type": function.return_type}),
        params=function.defaults,
    )


def _registered(function: RegisteredFunction) -> ScoringFn:
    return ScoringFn(
        identifier=function.scoring_fn_id,
        provider_resource_id=function.provider_scoring_fn_id or function.scoring_fn_id,
        provider_id=function.provider_id,
        description=function.description,
        return_type=ReturnType.model_validate(function.return_type),
        params=function_store.defined(function).defaults,
    )

"""The contract's Eval operations, and the routers of this slice put together.

The routes of jobs come before those of benchmarks: a benchmark's id may hold slashes, so `…/benchmarks/{id}` would
match them as well.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from paddock import routing
from paddock.errors import ConflictError
from paddock.evaluation import (
    answer,
    asking,
    benchmark_routes,
    bundle_routes,
    comparison_routes,
    plan,
    scoring_routes,
    submission,
)
from paddock.evaluation.answer import Collected
from paddock.evaluation.benchmark_routes import Datasets, Evaluation
from paddock.evaluation.evaluate import Todo, evaluate
from paddock.evaluation.plan import Plan
from paddock.evaluation.schemas import BenchmarkConfig, EvaluateResponse, EvaluateRowsRequest, Job
from paddock.evaluation.scoring_routes import Models, TheSettings, check_num_rows
from paddock.evaluation.store import EvaluationStore, Once
from paddock.inference.inference import Inference
from paddock.jobs import job as jobs
from paddock.routing import IdempotencyKey, PathId

_BENCHMARK = "/v1alpha/eval/benchmarks/{benchmark_id:path}"

_eval = routing.router("Eval")


@_eval.get(
    f"{_BENCHMARK}/jobs/{{job_id:path}}/result",
    response_model=EvaluateResponse,
    response_description="The result of the job.",
)
def job_result(evaluation: Evaluation, benchmark_id: PathId, job_id: PathId) -> Response:
    """Get the result of a job."""
    job = _job(evaluation, benchmark_id, job_id)
    if not job.status.is_final:
        raise ConflictError(f"The job {job_id} is {job.status.value}: its result is there once it has ended.")
    return StreamingResponse(answer.stream(job, evaluation.results), media_type="application/json")


@_eval.get(
    f"{_BENCHMARK}/jobs/{{job_id:path}}",
    response_model_exclude_none=True,
    response_description="The status of the evaluation job.",
)
def job_status(evaluation: Evaluation, benchmark_id: PathId, job_id: PathId) -> Job:
    """Get the status of a job."""
    return _shown(_job(evaluation, benchmark_id, job_id))


@_eval.delete(f"{_BENCHMARK}/jobs/{{job_id:path}}", response_model=None)
def job_cancel(request: Request, evaluation: Evaluation, benchmark_id: PathId, job_id: PathId) -> None:
    """Cancel a job."""
    _job(evaluation, benchmark_id, job_id)
    evaluation.jobs.cancel(job_id)
    request.app.state.wake_worker()


@_eval.post(
    f"{_BENCHMARK}/jobs",
    response_model_exclude_none=True,
    response_description="The job that was created to run the evaluation.",
)
async def run_eval(
    request: Request,
    evaluation: Evaluation,
    datasets: Datasets,
    inference: Models,
    benchmark_id: PathId,
    benchmark_config: BenchmarkConfig,
    key: IdempotencyKey,
) -> Job:
    """Run an evaluation on a benchmark."""
    once = None if key is None else Once(f"run_eval {benchmark_id}", key, await request.body())

    def submit() -> jobs.Job:
        job_id = None if once is None else evaluation.recall(once)
        if job_id is None:
            checked = submission.check(benchmark_id, benchmark_config, evaluation, datasets, inference)
            job_id = evaluation.submit(checked.new, checked.benchmark, datasets, once)
        return evaluation.jobs.get(job_id)

    job = await run_in_threadpool(submit)
    request.app.state.wake_worker()
    return _shown(job)


@_eval.post(
    f"{_BENCHMARK}/evaluations",
    response_model=EvaluateResponse,
    response_description="EvaluateResponse object containing generations and scores.",
)
async def evaluate_rows(
    request: Request,
    evaluation: Evaluation,
    inference: Models,
    settings: TheSettings,
    benchmark_id: PathId,
    body: EvaluateRowsRequest,
    key: IdempotencyKey,
) -> Response:
    """Evaluate a list of rows on a benchmark."""
    once = None if key is None else Once(f"evaluate_rows {benchmark_id}", key, await request.body())

    async def answer_now() -> str:
        num_results = len(body.input_rows) * (body.benchmark_config.num_samples or 1)
        check_num_rows(num_results, settings, "/input_rows")
        resolved = await run_in_threadpool(_resolve_rows, benchmark_id, body, evaluation, inference)
        return await routing.while_connected(request, _evaluate_rows(body, resolved, inference))

    if once is None:
        return _json(await answer_now())
    with evaluation.alone(once):
        earlier = await run_in_threadpool(evaluation.recall, once)
        if earlier is not None:
            return _json(earlier)
        return _json(await run_in_threadpool(evaluation.remember, once, await answer_now()))


def _resolve_rows(
    benchmark_id: str, body: EvaluateRowsRequest, evaluation: EvaluationStore, inference: Inference
) -> Plan:
    benchmark = evaluation.benchmarks.get(benchmark_id)
    return plan.resolve(
        body.benchmark_config,
        body.scoring_functions,
        evaluation.functions,
        inference,
        asking=asking.named_in(benchmark.metadata),
        pointer=f"/benchmark_config{body.benchmark_config.pointer}",
        functions_pointer="/scoring_functions",
    )


async def _evaluate_rows(body: EvaluateRowsRequest, resolved: Plan, inference: Inference) -> str:
    rows = body.input_rows[: body.benchmark_config.num_examples]
    collected = Collected(resolved, len(rows))
    each_sample = (row for row in rows for _ in range(resolved.num_samples))
    function_ids = resolved.function_ids
    todos = (Todo(index, row, None, function_ids) for index, row in enumerate(each_sample))
    await evaluate(todos, resolved, inference, collected.add)
    return await run_in_threadpool(collected.to_json)


def _job(evaluation: EvaluationStore, benchmark_id: str, job_id: str) -> jobs.Job:
    return evaluation.jobs.get(job_id, kinds=[submission.KIND], benchmark_id=benchmark_id)


def _shown(job: jobs.Job) -> Job:
    return Job(
        job_id=job.job_id,
        status=job.status,
        put_off=job.put_off,
        error=job.error,
        retryable=job.retryable,
        log_tail=job.log_tail,
        progress=job.progress,
    )


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


router = APIRouter()
for _routes in (_eval, benchmark_routes.router, bundle_routes.router, comparison_routes.router, scoring_routes.router):
    router.include_router(_routes)

"""The HTTP app: every slice's routes over the resources that `wiring` built."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from paddock import __version__
from paddock.datasets import routes as dataset_routes
from paddock.evaluation import routes as evaluation_routes
from paddock.inference import routes as inference_routes
from paddock.jobs import routes as job_routes
from paddock.post_training import routes as post_training_routes
from paddock.server import answers, openapi, support_routes
from paddock.server.admission import Admission
from paddock.server.callers import Callers
from paddock.server.frame import RequestFrame
from paddock.server.metrics import Metrics
from paddock.wiring import Resources


def create_app(
    resources: Resources,
    *,
    wake_worker: Callable[[], None],
    engine_pid: Callable[[], int | None] = lambda: None,
    is_ending: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The app over `resources`; `wake_worker` is called when a job was submitted or cancelled, `engine_pid` says which
    process is the engine, if there is one, and streams that go on for long end once the server `is_ending`."""
    settings = resources.settings
    callers = Callers(settings)
    admission = Admission(settings)
    metrics = Metrics()
    metrics.watch(resources.jobs, admission, engine_pid)
    rate_limits = None
    if settings.rate_limit is not None:
        from paddock.server.rate_limits import RateLimits

        rate_limits = RateLimits(settings.rate_limit)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = admission.num_threads
        yield
        await resources.inference.close()
        if rate_limits is not None:
            await rate_limits.close()

    app = FastAPI(
        title="Paddock",
        version=__version__,
        description="Models are trained, judged and ranked here.",
        lifespan=lifespan,
        responses=openapi.ERROR_RESPONSES,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.data_dir = resources.data_dir
    app.state.jobs = resources.jobs
    app.state.datasets = resources.datasets
    app.state.inference = resources.inference
    app.state.evaluation = resources.evaluation
    app.state.checkpoints = resources.checkpoints
    app.state.trials = resources.trials
    app.state.scores = resources.scores
    app.state.wake_worker = wake_worker
    app.state.is_ending = is_ending
    for routes in (
        dataset_routes,
        evaluation_routes,
        inference_routes,
        post_training_routes,
        job_routes,
        support_routes,
    ):
        app.include_router(routes.router)
    app.add_middleware(
        RequestFrame, settings=settings, callers=callers, admission=admission, rate_limits=rate_limits, metrics=metrics
    )
    answers.install(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app

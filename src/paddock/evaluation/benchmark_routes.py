"""Benchmarks over HTTP."""

from __future__ import annotations

from typing import Annotated

from paddock import routing
from paddock.datasets.store import DatasetStore
from paddock.evaluation import registration
from paddock.evaluation.benchmark_store import StoredBenchmark
from paddock.evaluation.extension_schemas import RegisterBenchmarkRequest
from paddock.evaluation.schemas import Benchmark, ListBenchmarksResponse
from paddock.evaluation.store import EvaluationStore
from paddock.routing import PathId

router = routing.router("Benchmarks")


Evaluation = Annotated[EvaluationStore, routing.held("evaluation")]
Datasets = Annotated[DatasetStore, routing.held("datasets")]


@router.get("/v1alpha/eval/benchmarks", response_description="A ListBenchmarksResponse.")
def list_benchmarks(evaluation: Evaluation) -> ListBenchmarksResponse:
    """List all benchmarks."""
    return ListBenchmarksResponse(data=[_shown(benchmark) for benchmark in evaluation.benchmarks.list()])


@router.get("/v1alpha/eval/benchmarks/{benchmark_id:path}", response_description="A Benchmark.")
def get_benchmark(evaluation: Evaluation, benchmark_id: PathId) -> Benchmark:
    """Get a benchmark by its ID."""
    return _shown(evaluation.benchmarks.get(benchmark_id))


@router.post("/v1alpha/eval/benchmarks", openapi_extra=routing.EXTENSION)
def register_benchmark(evaluation: Evaluation, datasets: Datasets, body: RegisterBenchmarkRequest) -> Benchmark:
    """Register a benchmark. The same again is fine."""
    return _shown(registration.register_benchmark(evaluation, datasets, body))


@router.delete("/v1alpha/eval/benchmarks/{benchmark_id:path}", openapi_extra=routing.EXTENSION)
def unregister_benchmark(evaluation: Evaluation, benchmark_id: PathId) -> None:
    """Remove a benchmark, unless an unfinished job runs it. Its jobs and their results stay."""
    evaluation.benchmarks.remove(benchmark_id)


def _shown(benchmark: StoredBenchmark) -> Benchmark:
    return Benchmark(
        identifier=benchmark.benchmark_id,
        provider_resource_id=benchmark.provider_benchmark_id or benchmark.benchmark_id,
        provider_id=benchmark.provider_id,
        dataset_id=benchmark.dataset_id,
        scoring_functions=list(benchmark.scoring_functions),
        metadata=benchmark.metadata,
    )

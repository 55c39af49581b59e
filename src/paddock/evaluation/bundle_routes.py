"""Bundles of evaluations over HTTP, an extension."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import StreamingResponse

from paddock import routing
from paddock.evaluation import bundle, submission
from paddock.evaluation.benchmark_routes import Datasets, Evaluation
from paddock.routing import PathId

router = routing.router("Eval")


@router.get(
    "/v1alpha/eval/bundles/{job_id:path}",
    openapi_extra=routing.EXTENSION,
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "A zip of JSON lines with their digests."}},
)
def export_bundle(evaluation: Evaluation, datasets: Datasets, job_id: PathId) -> Response:
    """Export all that an evaluation's result was derived from: rows, generations, verdicts, parameters, versions."""
    job = evaluation.jobs.get(job_id, kinds=[submission.KIND])
    bundle.check(job, datasets)
    return StreamingResponse(bundle.write(job, evaluation.results, datasets), media_type="application/zip")

"""Comparing evaluations over HTTP, an extension."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from paddock import routing
from paddock.errors import InvalidRequestError
from paddock.evaluation import comparison, submission
from paddock.evaluation.benchmark_routes import Evaluation
from paddock.evaluation.extension_schemas import ComparisonResponse

router = routing.router("Eval")

_MAX_JOBS = 20


@router.get("/v1alpha/eval/comparisons", openapi_extra=routing.EXTENSION)
def compare_jobs(
    evaluation: Evaluation,
    job_id: Annotated[list[str], Query(description="The baseline, then those that are compared with it.")],
    adjustment: Literal["holm", "benjamini-hochberg"] = "holm",
) -> ComparisonResponse:
    """Compare evaluations of the same rows with the first of them."""
    if not 2 <= len(set(job_id)) == len(job_id) <= _MAX_JOBS:
        raise InvalidRequestError(
            f"Name 2 to {_MAX_JOBS} different jobs, the baseline first: ?job_id=…&job_id=…", pointer="job_id"
        )
    jobs = [evaluation.jobs.get(one, kinds=[submission.KIND]) for one in job_id]
    return ComparisonResponse(adjustment=adjustment, data=comparison.compare(jobs, evaluation.results, adjustment))

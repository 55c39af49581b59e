"""The contract's Post Training operations, and the paths that client 0.7.0 asks for the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Query, Request

from paddock import routing
from paddock.datasets.store import DatasetStore
from paddock.inference.inference import Inference
from paddock.jobs.schemas import utc
from paddock.jobs.store import JobStore
from paddock.post_training import job
from paddock.post_training.schemas import (
    CancelTrainingJobRequest,
    Checkpoint,
    ListPostTrainingJobsResponse,
    ListSearchTrialsResponse,
    PostTrainingJob,
    PostTrainingJobArtifactsResponse,
    PostTrainingJobStatusResponse,
    PostTrainingMetric,
    PreferenceOptimizeRequest,
    SearchTrial,
    SupervisedFineTuneRequest,
)
from paddock.post_training.scores import BenchmarkScores
from paddock.post_training.search_config import SearchConfig
from paddock.post_training.store import CheckpointStore, StoredCheckpoint
from paddock.post_training.trial_store import Trial, TrialStore
from paddock.routing import PathId
from paddock.settings import Settings

router = routing.router("Post Training")


TheSettings = Annotated[Settings, routing.held("settings")]
Jobs = Annotated[JobStore, routing.held("jobs")]
Datasets = Annotated[DatasetStore, routing.held("datasets")]
Checkpoints = Annotated[CheckpointStore, routing.held("checkpoints")]
Models = Annotated[Inference, routing.held("inference")]
Scores = Annotated[BenchmarkScores, routing.held("scores")]
Trials = Annotated[TrialStore, routing.held("trials")]
JobUuid = Annotated[str, Query()]


@router.get("/v1alpha/post-training/jobs", response_description="A ListPostTrainingJobsResponse.")
def get_training_jobs(jobs: Jobs) -> ListPostTrainingJobsResponse:
    """Get all training jobs."""
    # The trials of a search are listed with it.
    found = jobs.list(kinds=job.KINDS, with_children=False)
    return ListPostTrainingJobsResponse(data=[PostTrainingJob(job_uuid=j.job_id) for j in found])


@router.post("/v1alpha/post-training/supervised-fine-tune", response_description="A PostTrainingJob.")
def supervised_fine_tune(
    request: Request,
    body: SupervisedFineTuneRequest,
    settings: TheSettings,
    jobs: Jobs,
    datasets: Datasets,
    checkpoints: Checkpoints,
    inference: Models,
    scores: Scores,
) -> PostTrainingJob:
    """Run supervised fine-tuning of a model."""
    submitted = job.submit_supervised(body, settings, jobs, datasets, checkpoints, inference, scores)
    request.app.state.wake_worker()
    return PostTrainingJob(job_uuid=submitted.job_id)


@router.post("/v1alpha/post-training/preference-optimize", response_description="A PostTrainingJob.")
def preference_optimize(
    request: Request,
    body: PreferenceOptimizeRequest,
    settings: TheSettings,
    jobs: Jobs,
    datasets: Datasets,
    checkpoints: Checkpoints,
    inference: Models,
    scores: Scores,
) -> PostTrainingJob:
    """Run preference optimization of a model."""
    submitted = job.submit_preference(body, settings, jobs, datasets, checkpoints, inference, scores)
    request.app.state.wake_worker()
    return PostTrainingJob(job_uuid=submitted.job_id)


@router.get("/v1alpha/post-training/job/status", response_description="A PostTrainingJobStatusResponse.")
def get_training_job_status(jobs: Jobs, checkpoints: Checkpoints, job_uuid: JobUuid) -> PostTrainingJobStatusResponse:
    """Get the status of a training job."""
    found = jobs.get(job_uuid, kinds=job.KINDS)
    return PostTrainingJobStatusResponse(
        job_uuid=found.job_id,
        status=found.status,
        scheduled_at=utc(found.created_at),
        started_at=utc(found.started_at),
        completed_at=utc(found.ended_at),
        resources_allocated=found.resources,
        checkpoints=_shown(checkpoints, found.job_id),
        put_off=found.put_off,
        error=found.error,
        retryable=found.retryable,
        log_tail=found.log_tail,
        progress=found.progress,
    )


@router.post("/v1alpha/post-training/job/cancel")
def cancel_training_job(request: Request, body: CancelTrainingJobRequest, jobs: Jobs) -> None:
    """Cancel a training job."""
    jobs.get(body.job_uuid, kinds=job.KINDS)
    jobs.cancel(body.job_uuid)
    request.app.state.wake_worker()


@router.get("/v1alpha/post-training/job/artifacts", response_description="A PostTrainingJobArtifactsResponse.")
def get_training_job_artifacts(
    jobs: Jobs, checkpoints: Checkpoints, job_uuid: JobUuid
) -> PostTrainingJobArtifactsResponse:
    """Get the artifacts of a training job."""
    found = jobs.get(job_uuid, kinds=job.KINDS)
    return PostTrainingJobArtifactsResponse(job_uuid=found.job_id, checkpoints=_shown(checkpoints, found.job_id))


@router.get("/v1alpha/post-training/jobs/{job_uuid:path}/status", openapi_extra=routing.EXTENSION)
def get_training_job_status_by_path(
    jobs: Jobs, checkpoints: Checkpoints, job_uuid: PathId
) -> PostTrainingJobStatusResponse:
    """The same as `/v1alpha/post-training/job/status`, where client 0.7.0 asks for it."""
    return get_training_job_status(jobs, checkpoints, job_uuid)


@router.post("/v1alpha/post-training/jobs/{job_uuid:path}/cancel", openapi_extra=routing.EXTENSION)
def cancel_training_job_by_path(request: Request, jobs: Jobs, job_uuid: PathId) -> None:
    """The same as `/v1alpha/post-training/job/cancel`, where client 0.7.0 asks for it."""
    cancel_training_job(request, CancelTrainingJobRequest(job_uuid=job_uuid), jobs)


@router.get("/v1alpha/post-training/jobs/{job_uuid:path}/artifacts", openapi_extra=routing.EXTENSION)
def get_training_job_artifacts_by_path(
    jobs: Jobs, checkpoints: Checkpoints, job_uuid: PathId
) -> PostTrainingJobArtifactsResponse:
    """The same as `/v1alpha/post-training/job/artifacts`, where client 0.7.0 asks for it."""
    return get_training_job_artifacts(jobs, checkpoints, job_uuid)


@router.get("/v1alpha/post-training/jobs/{job_uuid:path}/trials", openapi_extra=routing.EXTENSION)
def list_search_trials(jobs: Jobs, trials: Trials, job_uuid: PathId) -> ListSearchTrialsResponse:
    """The trials of a hyperparameter search, in their order, and which is the best so far."""
    found = jobs.get(job_uuid, kinds=[job.SEARCH])
    search = SearchConfig.model_validate(found.request["request"]["hyperparam_search_config"])
    made = trials.of_search(found.job_id)
    if found.status.is_final:
        # A search that was cancelled has no time to note how its last trials ended.
        over = f"The search was {found.status.value}."
        made = [replace(t, status="failed", error=over) if t.status == "running" else t for t in made]
    chosen = search.best(made)
    return ListSearchTrialsResponse(
        data=[_trial(trial) for trial in made],
        objective=search.objective if isinstance(search.objective, str) else search.objective.model_dump(),
        num_trials=search.total,
        best=None if chosen is None else chosen.number,
    )


def _trial(trial: Trial) -> SearchTrial:
    return SearchTrial(
        number=trial.number,
        job_uuid=trial.job_id,
        parameters=trial.params,
        status=trial.status,
        value=trial.value,
        validation_losses=list(trial.losses),
        error=trial.error,
        eval_job_id=trial.eval_job_id,
    )


def _shown(checkpoints: CheckpointStore, job_id: str) -> list[Checkpoint]:
    return [_checkpoint(stored) for stored in checkpoints.of_job(job_id)]


def _checkpoint(stored: StoredCheckpoint) -> Checkpoint:
    created_at = utc(stored.created_at)
    assert created_at is not None
    return Checkpoint(
        identifier=stored.identifier,
        created_at=created_at,
        epoch=stored.epoch,
        post_training_job_id=stored.job_id,
        # Below the checkpoint root: where that is on the server is not the clients' business.
        path=stored.path,
        training_metrics=None if stored.metrics is None else PostTrainingMetric(epoch=stored.epoch, **stored.metrics),
    )

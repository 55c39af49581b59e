"""The contract's Post Training operations, and the paths that client 0.7.0 asks for the same."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

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
    PostTrainingJob,
    PostTrainingJobArtifactsResponse,
    PostTrainingJobStatusResponse,
    PostTrainingMetric,
    PreferenceOptimizeRequest,
    SupervisedFineTuneRequest,
)
from paddock.post_training.store import CheckpointStore, StoredCheckpoint
from paddock.routing import PathId
from paddock.settings import Settings

router = routing.router("Post Training")


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _jobs(request: Request) -> JobStore:
    jobs: JobStore = request.app.state.jobs
    return jobs


def _datasets(request: Request) -> DatasetStore:
    datasets: DatasetStore = request.app.state.datasets
    return datasets


def _checkpoints(request: Request) -> CheckpointStore:
    checkpoints: CheckpointStore = request.app.state.checkpoints
    return checkpoints


def _inference(request: Request) -> Inference:
    inference: Inference = request.app.state.inference
    return inference


TheSettings = Annotated[Settings, Depends(_settings)]
Jobs = Annotated[JobStore, Depends(_jobs)]
Datasets = Annotated[DatasetStore, Depends(_datasets)]
Checkpoints = Annotated[CheckpointStore, Depends(_checkpoints)]
Models = Annotated[Inference, Depends(_inference)]
JobUuid = Annotated[str, Query()]


@router.get("/v1alpha/post-training/jobs", response_description="A ListPostTrainingJobsResponse.")
def get_training_jobs(jobs: Jobs) -> ListPostTrainingJobsResponse:
    """Get all training jobs."""
    return ListPostTrainingJobsResponse(data=[PostTrainingJob(job_uuid=j.job_id) for j in jobs.list(kinds=job.KINDS)])


@router.post("/v1alpha/post-training/supervised-fine-tune", response_description="A PostTrainingJob.")
def supervised_fine_tune(
    request: Request,
    body: SupervisedFineTuneRequest,
    settings: TheSettings,
    jobs: Jobs,
    datasets: Datasets,
    checkpoints: Checkpoints,
    inference: Models,
) -> PostTrainingJob:
    """Run supervised fine-tuning of a model."""
    submitted = job.submit_supervised(body, settings, jobs, datasets, checkpoints, inference)
    request.app.state.wake_worker()
    return PostTrainingJob(job_uuid=submitted.job_id)


@router.post("/v1alpha/post-training/preference-optimize", response_description="A PostTrainingJob.")
def preference_optimize(
    request: Request,
    body: PreferenceOptimizeRequest,
    jobs: Jobs,
    datasets: Datasets,
    checkpoints: Checkpoints,
    inference: Models,
) -> PostTrainingJob:
    """Run preference optimization of a model."""
    submitted = job.submit_preference(body, jobs, datasets, checkpoints, inference)
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

"""A small world for evaluation: a database, a stand-in for somebody's model server, and what submits and runs jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model_server import ModelServer
from paddock import runners
from paddock.datasets import registration as dataset_registration
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore
from paddock.errors import LostLeaseError, PaddockError
from paddock.evaluation import job as eval_job
from paddock.evaluation import registration, submission
from paddock.evaluation.schemas import BenchmarkConfig
from paddock.evaluation.store import EvaluationStore
from paddock.inference.engine import Model
from paddock.inference.inference import Inference
from paddock.inference.remote import RemoteEngine
from paddock.inference.store import ModelStore
from paddock.jobs import states
from paddock.jobs.job import Job
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.store import JobStore
from paddock.settings import Provider, Settings
from paddock.storage.database import Database


@dataclass
class World:
    """What the routes and the job's process hold, with the other side of the provider `lab`."""

    settings: Settings
    database: Database
    jobs: JobStore
    datasets: DatasetStore
    evaluation: EvaluationStore
    inference: Inference
    server: ModelServer

    def add_dataset(self, rows: Sequence[dict[str, Any]], dataset_id: str = "exam") -> None:
        entry = {
            "dataset_id": dataset_id,
            "purpose": "eval/question-answer",
            "source": {"type": "rows", "rows": list(rows)},
        }
        dataset_registration.register_entry(self.datasets, Access(), entry)

    def add_benchmark(
        self, *functions: str, benchmark_id: str = "bench", dataset_id: str = "exam", metadata: Any = None
    ) -> None:
        entry = {
            "benchmark_id": benchmark_id,
            "dataset_id": dataset_id,
            "scoring_functions": list(functions or ("basic::equality",)),
            "metadata": metadata or {},
        }
        registration.register_benchmark_entry(self.evaluation, self.datasets, entry)

    def submit(self, config: dict[str, Any] | None = None, benchmark_id: str = "bench") -> str:
        parsed = BenchmarkConfig.model_validate(config or candidate())
        checked = submission.check(benchmark_id, parsed, self.evaluation, self.datasets, self.inference)
        return self.evaluation.submit(checked.new, checked.benchmark, self.datasets, None)

    def run(self, job_id: str, *, meanwhile: Callable[[Progress], None] = lambda _: None) -> Job:
        """One attempt at a job as `runners` makes it, in this process."""
        job = self.jobs.claim(worker_id="worker", lease_seconds=60)
        assert job is not None
        assert job.job_id == job_id
        progress = Progress(job, self.jobs)
        meanwhile(progress)
        is_last = job.num_retries >= self.settings.max_job_retries
        try:
            eval_job.run(progress, self.datasets, self.evaluation, self.inference, is_last_attempt=is_last)
        except StopRequestedError:
            with self.database.write() as connection:
                states.hand_back(connection, self.database.now(), job_id, job.attempt)
        except LostLeaseError:
            raise
        except PaddockError as error:
            runners.end_badly(progress, self.settings, error, self.settings.data_dir / "log")
        else:
            runners.end_well(progress)
        return self.jobs.get(job_id)

    def run_to_end(self, job_id: str) -> Job:
        """Attempts at a job until it has ended; a put-off one need not wait (`job_retry_seconds`)."""
        while not (job := self.run(job_id)).status.is_final:
            pass
        return job


def candidate(model: str = "pupil", **sampling: Any) -> dict[str, Any]:
    """A benchmark configuration with nothing but what it needs."""
    return {"eval_candidate": {"model": model, "sampling_params": sampling}}


def make_world(settings: Settings, database: Database, server: ModelServer, *, max_concurrency: int) -> World:
    """The world around a model server that runs; `pupil` and `judge` are its models, `ranker` is one that cannot chat."""
    provider = Provider.model_validate(
        {
            "provider_id": "lab",
            "provider_type": "remote::openai",
            "config": {"base_url": server.base_url, "max_concurrency": max_concurrency, "timeout_seconds": 20},
        }
    )
    jobs = JobStore(database)
    models = ModelStore(database)
    for model_id in ("pupil", "judge"):
        models.register(Model(model_id, "lab", model_id))
    models.register(Model("ranker", "lab", "ranker", "rerank"))
    return World(
        settings=settings,
        database=database,
        jobs=jobs,
        datasets=DatasetStore(database, jobs),
        evaluation=EvaluationStore(database, jobs),
        inference=Inference(settings, models, {"lab": RemoteEngine(provider)}),
        server=server,
    )

"""Settings → every long-lived object, by plain calls. The server and each job's process build theirs here."""

from __future__ import annotations

from dataclasses import dataclass

from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore
from paddock.evaluation.generation_store import GenerationCache
from paddock.evaluation.objective import BenchmarkScores
from paddock.evaluation.store import EvaluationStore
from paddock.inference.engine import Engine
from paddock.inference.inference import LOCAL, Inference
from paddock.inference.local import LocalEngine
from paddock.inference.remote import RemoteEngine
from paddock.inference.store import ModelStore
from paddock.jobs.store import JobStore
from paddock.post_training.store import CheckpointStore
from paddock.post_training.trial_store import TrialStore
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database


@dataclass(frozen=True)
class Resources:
    """What the routes and the runners work with."""

    settings: Settings
    data_dir: DataDir
    database: Database
    jobs: JobStore
    datasets: DatasetStore
    inference: Inference
    evaluation: EvaluationStore
    checkpoints: CheckpointStore
    trials: TrialStore
    scores: BenchmarkScores


def build(settings: Settings) -> Resources:
    """Open the data directory and the database; the tables are those of this version afterwards."""
    data_dir = DataDir(settings.data_dir, settings.checkpoint_root)
    data_dir.create()
    database = Database(settings.database_url, sqlite_file=data_dir.database_file)
    database.migrate()
    jobs = JobStore(database, max_scheduled=settings.max_scheduled_jobs)
    models = ModelStore(database)
    egress = Access.of(settings).egress()
    engines: dict[str, Engine] = {LOCAL: LocalEngine(data_dir.engine_socket, data_dir.checkpoints, egress)}
    engines |= {provider.provider_id: RemoteEngine(provider) for provider in settings.providers}
    datasets = DatasetStore(database, jobs)
    inference = Inference(settings, models, engines)
    addresses = {provider.provider_id: provider.config.base_url for provider in settings.providers}
    cache = GenerationCache(database, settings.generation_cache_rows, addresses)
    evaluation = EvaluationStore(database, jobs, cache)
    return Resources(
        settings=settings,
        data_dir=data_dir,
        database=database,
        jobs=jobs,
        datasets=datasets,
        inference=inference,
        evaluation=evaluation,
        checkpoints=CheckpointStore(database, data_dir, models),
        trials=TrialStore(database),
        scores=BenchmarkScores(evaluation, datasets, inference),
    )

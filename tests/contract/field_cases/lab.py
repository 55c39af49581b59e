"""Where a case makes its experiment: the whole app over HTTP, a model server that records what it is asked, and jobs that
run in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from model_server import ModelServer
from paddock import wiring
from paddock.errors import PaddockError
from paddock.jobs import states
from paddock.jobs.progress import Progress
from paddock.jobs.store import Job
from paddock.runners import RUNNERS
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources


class Lab:
    """One server for many cases. Datasets, benchmarks and jobs of a case bear ids of their own (`new_id`)."""

    def __init__(self, folder: Path, tiny_llama: Path) -> None:
        self.folder = folder
        self.tiny_llama = tiny_llama
        self.answer: Callable[[dict[str, Any]], Any] = lambda _body: "an answer"
        self._open = ExitStack()
        self._num_ids = 0

    def close(self) -> None:
        self._open.close()

    def new_id(self, name: str) -> str:
        """An id that no other case has."""
        self._num_ids += 1
        return f"{name}-{self._num_ids}"

    @cached_property
    def backend(self) -> ModelServer:
        """The other side of the provider `lab`; its answers are `answer(body)`, its `requests` what it was asked."""
        return self._open.enter_context(ModelServer(self._answer))

    def _answer(self, body: dict[str, Any]) -> Any:
        return self.answer(body)

    @cached_property
    def resources(self) -> Resources:
        lab = {
            "provider_id": "lab",
            "provider_type": "remote::openai",
            "config": {"base_url": self.backend.base_url, "timeout_seconds": 20},
        }
        models = [
            {"model_id": "pupil", "provider_id": "lab"},
            {"model_id": "other-pupil", "provider_id": "lab"},
            {"model_id": "judge", "provider_id": "lab"},
            {"model_id": "ranker", "provider_id": "lab", "model_type": "rerank"},
            {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(self.tiny_llama)},
        ]
        settings = Settings.model_validate({"data_dir": self.folder / "data", "providers": [lab]})
        resources = wiring.build(settings)
        self._open.callback(resources.database.close)
        from paddock.inference.registration import register_entry

        for model in models:
            register_entry(resources.inference, model)
        return resources

    @cached_property
    def http(self) -> TestClient:
        app = create_app(self.resources, wake_worker=lambda: None)
        return self._open.enter_context(TestClient(app, base_url="http://127.0.0.1"))

    def call(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """The JSON of an answer that must be 200."""
        response = self.http.request(method, path, json=body, params=parameters)
        assert response.status_code == 200, response.text
        return response.json() if response.content else None

    def refusal(self, method: str, path: str, body: Any = None) -> tuple[str, str]:
        """Pointer and message of a request that must be refused with 400."""
        response = self.http.request(method, path, json=body)
        assert response.status_code == 400, response.text
        (error,) = response.json()["errors"]
        return error["pointer"], error["message"]

    def add_dataset(self, rows: list[dict[str, Any]], purpose: str = "eval/question-answer") -> str:
        """Register rows; returns the dataset's id."""
        dataset_id = self.new_id("rows")
        source = {"type": "rows", "rows": rows}
        body = {"dataset_id": dataset_id, "purpose": purpose, "source": source}
        self.http.post("/v1beta/datasets", json=body).raise_for_status()
        return dataset_id

    def run_job(self, job_id: str) -> Job:
        """Do the scheduled job in this process, as `runners` does in one of its own; it must be the only one waiting."""
        jobs = self.resources.jobs
        job = jobs.claim(worker_id="lab", lease_seconds=600)
        assert job is not None
        assert job.job_id == job_id
        progress = Progress(job, jobs)
        now = jobs.database.now()
        try:
            RUNNERS[job.kind](progress, self.resources)
        except PaddockError as error:
            with jobs.database.write() as connection:
                states.fail(connection, now, job_id, job.attempt, error.detail)
        else:
            with progress.write() as connection:
                progress.flush_metrics(connection)
                states.complete(connection, now, job_id, job.attempt)
        return jobs.get(job_id)

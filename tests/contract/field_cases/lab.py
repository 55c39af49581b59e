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
from paddock.inference.engine_host import EngineHost
from paddock.inference.registration import register_entry
from paddock.jobs import states
from paddock.jobs.job import Job
from paddock.jobs.progress import Progress
from paddock.jobs.states import JobStatus
from paddock.runners import RUNNERS
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources
from tiny_models import make_llava


class Lab:
    """One server for many cases. Datasets, benchmarks and jobs of a case bear ids of their own (`new_id`).

    `pupil`, `other-pupil`, `judge` and the `ranker`s are models of the other side; `tiny`, and `seer`, which reads images
    too, are ours, in a real engine process."""

    def __init__(self, folder: Path, tiny_llama: Path) -> None:
        self.folder = folder
        self.tiny_llama = tiny_llama
        self.answer: Callable[[dict[str, Any]], Any] = lambda _body: "an answer"
        self._open = ExitStack()
        self._num_ids = 0

    def close(self) -> None:
        self._open.close()

    def clear(self) -> None:
        """Forget what a case has set up: its answers, and jobs that still wait."""
        self.answer = lambda _body: "an answer"
        for job in self.resources.jobs.list(status=JobStatus.SCHEDULED):
            self.resources.jobs.cancel(job.job_id)

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
            {"model_id": "other-ranker", "provider_id": "lab", "model_type": "rerank"},
            {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(self.tiny_llama)},
            {"model_id": "seer", "provider_id": "local", "provider_model_id": str(make_llava(self.folder / "seer"))},
        ]
        settings = Settings.model_validate({"data_dir": self.folder / "data", "providers": [lab]})
        resources = wiring.build(settings)
        self._open.callback(resources.database.close)
        for model in models:
            register_entry(resources.inference, model)
        host = EngineHost(settings, resources.data_dir)
        host.start()
        self._open.callback(host.stop)
        return resources

    @cached_property
    def _job_resources(self) -> Resources:
        """What jobs work with: as in their own processes, no object is shared with the server but files."""
        resources = wiring.build(self.resources.settings)
        self._open.callback(resources.database.close)
        return resources

    @cached_property
    def http(self) -> TestClient:
        app = create_app(self.resources, wake_worker=lambda: None)
        return self._open.enter_context(TestClient(app, base_url="http://127.0.0.1"))

    def asked(self, since: int = 0) -> list[dict[str, Any]]:
        """The bodies that the other side was sent, after the first `since` of them."""
        return [body for _path, body, _headers in self.backend.requests[since:]]

    def call(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """The JSON of an answer that must be 200."""
        response = self.http.request(method, path, json=body, params=parameters)
        assert response.status_code == 200, response.text
        return response.json() if response.content else None

    def refusals(self, method: str, path: str, body: Any = None, **parameters: Any) -> list[tuple[str, str]]:
        """Pointers and messages of a request that must be refused with 400, and does nothing."""
        num_asked_before = len(self.backend.requests)
        response = self.http.request(method, path, json=body, params=parameters)
        assert response.status_code == 400, response.text
        assert self.asked(num_asked_before) == []
        return [(error["pointer"], error["message"]) for error in response.json()["errors"]]

    def refusal(self, method: str, path: str, body: Any = None, **parameters: Any) -> tuple[str, str]:
        """Pointer and message of a request that must be refused for one reason."""
        (only,) = self.refusals(method, path, body, **parameters)
        return only

    def missing(self, method: str, path: str, body: Any = None, **parameters: Any) -> str:
        """Why a request that names something unknown must be answered 404."""
        response = self.http.request(method, path, json=body, params=parameters)
        assert response.status_code == 404, response.text
        detail: str = response.json()["detail"]
        return detail

    def add_dataset(self, rows: list[dict[str, Any]], purpose: str = "eval/question-answer") -> str:
        """Register rows; returns the dataset's id."""
        dataset_id = self.new_id("rows")
        source = {"type": "rows", "rows": rows}
        body = {"dataset_id": dataset_id, "purpose": purpose, "source": source}
        self.http.post("/v1beta/datasets", json=body).raise_for_status()
        return dataset_id

    def run_job(self, job_id: str) -> Job:
        """Do the scheduled job in this process, as `runners` does in one of its own; it must be the only one waiting."""
        jobs = self._job_resources.jobs
        job = jobs.claim(worker_id="lab", lease_seconds=600)
        assert job is not None
        assert job.job_id == job_id
        progress = Progress(job, jobs)
        now = jobs.database.now()
        try:
            RUNNERS[job.kind](progress, self._job_resources)
        except PaddockError as error:
            with jobs.database.write() as connection:
                states.fail(connection, now, job_id, job.attempt, error.detail)
        else:
            with progress.write() as connection:
                progress.flush_metrics(connection)
                states.complete(connection, now, job_id, job.attempt)
        return jobs.get(job_id)

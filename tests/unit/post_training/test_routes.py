"""The contract's operations over HTTP, and the paths that client 0.7.0 asks for the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from paddock.post_training.routes import router
from paddock.server.answers import install
from paddock.wiring import Resources
from training_office import add_dataset, chats, dpo_request, pairs, run, sft_request, training

POST_TRAINING = "/v1alpha/post-training"


@pytest.fixture
def woken() -> list[None]:
    return []


@pytest.fixture
def client(resources: Resources, woken: list[None]) -> Iterator[TestClient]:
    add_dataset(resources, "chats", chats(8))
    add_dataset(resources, "pairs", pairs(8))
    app = FastAPI()
    app.include_router(router)
    install(app)
    app.state.settings = resources.settings
    app.state.jobs = resources.jobs
    app.state.datasets = resources.datasets
    app.state.checkpoints = resources.checkpoints
    app.state.inference = resources.inference
    app.state.trials = resources.trials
    app.state.scores = resources.scores
    app.state.wake_worker = lambda: woken.append(None)
    with TestClient(app) as client:
        yield client


def test_submit_list_status_cancel(client: TestClient, woken: list[None]) -> None:
    answer = client.post(f"{POST_TRAINING}/supervised-fine-tune", json=sft_request("team/a", training("chats")))
    assert (answer.status_code, answer.json()) == (200, {"job_uuid": "team/a"})
    answer = client.post(f"{POST_TRAINING}/preference-optimize", json=dpo_request("b", "tiny", training("pairs")))
    assert (answer.status_code, answer.json()) == (200, {"job_uuid": "b"})
    assert len(woken) == 2
    listed = client.get(f"{POST_TRAINING}/jobs").json()["data"]
    assert sorted(job["job_uuid"] for job in listed) == ["b", "team/a"]

    status = client.get(f"{POST_TRAINING}/job/status", params={"job_uuid": "team/a"}).json()
    assert status["status"] == "scheduled"
    assert datetime.fromisoformat(status["scheduled_at"]).tzinfo is not None
    assert (status["started_at"], status["completed_at"], status["checkpoints"]) == (None, None, [])
    assert client.get(f"{POST_TRAINING}/jobs/team/a/status").json() == status
    assert client.get(f"{POST_TRAINING}/jobs/team%2Fa/status").json() == status

    for _ in range(2):  # again is fine
        answer = client.post(f"{POST_TRAINING}/job/cancel", json={"job_uuid": "team/a"})
        assert (answer.status_code, answer.json()) == (200, None)
    assert client.post(f"{POST_TRAINING}/jobs/b/cancel").status_code == 200
    assert len(woken) == 5
    for job_uuid in ("team/a", "b"):
        status = client.get(f"{POST_TRAINING}/job/status", params={"job_uuid": job_uuid}).json()
        assert status["status"] == "cancelled"


def test_a_finished_job_shows_its_checkpoints(client: TestClient, resources: Resources) -> None:
    request = sft_request("a", training("chats", validation_dataset_id="chats"))
    run(resources, request)
    status = client.get(f"{POST_TRAINING}/job/status", params={"job_uuid": "a"}).json()
    assert status["status"] == "completed"
    assert status["progress"] == {"done": 4, "total": 4, "unit": "steps"}
    assert status["resources_allocated"]["device"] == "cpu"
    first, second = status["checkpoints"]
    assert (first["identifier"], first["epoch"], first["post_training_job_id"]) == ("a:epoch-1", 1, "a")
    assert (resources.checkpoints.root / second["path"] / "adapter_model.safetensors").exists()
    metrics = second["training_metrics"]
    assert metrics.keys() == {"epoch", "train_loss", "validation_loss", "perplexity"}
    assert metrics["epoch"] == 2
    artifacts = client.get(f"{POST_TRAINING}/job/artifacts", params={"job_uuid": "a"}).json()
    assert artifacts == {"job_uuid": "a", "checkpoints": status["checkpoints"]}
    assert client.get(f"{POST_TRAINING}/jobs/a/artifacts").json() == artifacts
    assert client.post(f"{POST_TRAINING}/job/cancel", json={"job_uuid": "a"}).status_code == 409
    # The same request again is the same job, finished as it is.
    assert client.post(f"{POST_TRAINING}/supervised-fine-tune", json=request).json() == {"job_uuid": "a"}


def test_unknown_jobs(client: TestClient, resources: Resources) -> None:
    for path in ("job/status", "job/artifacts"):
        assert client.get(f"{POST_TRAINING}/{path}", params={"job_uuid": "nobody"}).status_code == 404
        assert client.get(f"{POST_TRAINING}/{path}").status_code == 400
    assert client.post(f"{POST_TRAINING}/job/cancel", json={"job_uuid": "nobody"}).status_code == 404
    assert client.get(f"{POST_TRAINING}/jobs/nobody/status").status_code == 404


def test_refusals_name_their_fields_all_at_once(client: TestClient) -> None:
    request = sft_request("a", training("chats", n_epochs=0, seed=-1, dtype="fp16"))
    answer = client.post(f"{POST_TRAINING}/supervised-fine-tune", json=request)
    assert answer.status_code == 400
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/training_config/n_epochs", "/training_config/seed", "/training_config/dtype"]
    request = sft_request("a", training("chats"), algorithm_config={"type": "magic"})
    answer = client.post(f"{POST_TRAINING}/supervised-fine-tune", json=request)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/algorithm_config"]

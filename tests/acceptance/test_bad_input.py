"""What a user gets wrong: an answer that names the field, or a failed job that says why; nothing half done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bodies import candidate, fine_tune, register_chats, register_sums
from live_server import LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Any:
    folder = tmp_path_factory.mktemp("server")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((tiny_llama / "config.json").read_text())
    (broken / "model.safetensors").write_bytes(b"no tensors at all")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (broken / file).write_text((tiny_llama / file).read_text())
    models = [
        {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
        {"model_id": "broken", "provider_id": "local", "provider_model_id": str(broken), "model_type": "llm"},
    ]
    with LiveServer(folder, registered_resources={"models": models}) as server:
        register_sums(server, 3)
        register_chats(server, 8)
        yield server


def _change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    inner = body
    *folders, name = path.split("/")
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return body


SFT = "/v1alpha/post-training/supervised-fine-tune"
EVAL = "/v1alpha/eval/benchmarks/sums-eq/jobs"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "pointer"),
    [
        ("GET", "/v1beta/datasets/nowhere", None, 404, None),
        ("GET", "/v1beta/datasetio/iterrows/nowhere", None, 404, None),
        ("GET", "/v1beta/datasetio/iterrows/sums?limit=-2", None, 400, None),
        ("GET", "/v1beta/datasetio/iterrows/sums?limit=many", None, 400, "limit"),
        ("POST", "/v1beta/datasetio/append-rows/nowhere", {"rows": []}, 404, None),
        ("POST", "/v1beta/datasetio/append-rows/sums", {"rows": [1]}, 400, "/rows/0"),
        ("POST", "/v1beta/datasetio/append-rows/sums", {"rows": {}}, 400, "/rows"),
        ("POST", "/v1beta/datasetio/append-rows/sums", {}, 400, "/rows"),
        ("GET", "/v1alpha/eval/benchmarks/nowhere", None, 404, None),
        ("POST", "/v1alpha/eval/benchmarks/nowhere/jobs", candidate("tiny"), 404, None),
        ("POST", EVAL, candidate("nobody"), 400, "/eval_candidate/model"),
        ("POST", EVAL, candidate("tiny") | {"num_examples": 0}, 400, "/num_examples"),
        ("POST", EVAL, {}, 400, "/eval_candidate"),
        ("GET", f"{EVAL}/nothing", None, 404, None),
        ("GET", f"{EVAL}/nothing/result", None, 404, None),
        ("DELETE", f"{EVAL}/nothing", None, 404, None),
        ("POST", "/v1alpha/inference/rerank", {"model": "nobody", "query": "q", "items": ["a"]}, 404, None),
        ("POST", "/v1alpha/inference/rerank", {"model": "tiny", "query": "q", "items": "a"}, 400, "/items"),
        ("POST", SFT, _change(fine_tune("x", "nobody"), "model", "nobody"), 400, "/model"),
        ("POST", SFT, _change(fine_tune("x", "tiny"), "training_config/n_epochs", 0), 400, "/training_config/n_epochs"),
        (
            "POST",
            SFT,
            _change(fine_tune("x", "tiny"), "training_config/data_config/dataset_id", "none"),
            400,
            "/training_config/data_config/dataset_id",
        ),
        (
            "POST",
            SFT,
            _change(fine_tune("x", "tiny"), "training_config/data_config/dataset_id", "sums"),
            400,
            "/training_config/data_config/dataset_id",
        ),
        ("POST", SFT, _change(fine_tune("x", "tiny"), "checkpoint_dir", "/etc"), 400, "/checkpoint_dir"),
        ("POST", SFT, _change(fine_tune("x", "tiny"), "algorithm_config/type", "LoRAX"), 400, "/algorithm_config"),
        ("GET", "/v1alpha/post-training/job/status?job_uuid=none", None, 404, None),
        ("GET", "/v1alpha/post-training/job/status", None, 400, "job_uuid"),
        ("POST", "/v1alpha/post-training/job/cancel", {"job_uuid": "none"}, 404, None),
        ("GET", "/v1alpha/jobs/none", None, 404, None),
        ("GET", "/v1/models/none", None, 404, None),
    ],
)
def test_the_answer_names_the_mend(
    server: LiveServer, method: str, path: str, body: Any, status: int, pointer: str | None
) -> None:
    response = server.http.request(method, path, json=body)
    assert response.status_code == status, response.text
    error = response.json()
    assert error["status"] == status
    assert error["detail"]
    assert "Traceback" not in response.text
    assert "/site-packages" not in response.text
    if pointer is not None:
        assert [e["pointer"] for e in error["errors"]] == [pointer]


def test_a_refused_request_leaves_no_job(server: LiveServer) -> None:
    before = server.call("GET", "/v1alpha/jobs")
    server.http.post(SFT, json=_change(fine_tune("refused", "tiny"), "training_config/n_epochs", -1))
    server.http.post(EVAL, json=candidate("nobody"))
    assert server.call("GET", "/v1alpha/jobs") == before


def test_a_model_that_cannot_be_loaded_is_refused_or_fails_its_jobs_with_the_reason(server: LiveServer) -> None:
    for more in ({}, {"algorithm_config": None}):
        response = server.http.post(SFT, json=fine_tune("on-broken", "broken") | more)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/model")

    job_id = server.call("POST", EVAL, candidate("broken"))["job_id"]
    job = server.wait_for_job(job_id)
    assert job["status"] == "failed"
    assert "broken" in job["error"]

    response = server.http.post("/v1alpha/inference/rerank", json={"model": "broken", "query": "q", "items": ["a"]})
    assert response.status_code == 400


def test_a_backend_that_is_down_fails_the_job_with_the_reason(tmp_path: Path) -> None:
    provider = {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": "http://127.0.0.1:9/v1"},
    }
    models = [{"model_id": "far", "provider_id": "lab", "model_type": "llm"}]
    settings = {"providers": [provider], "registered_resources": {"models": models}}
    with LiveServer(tmp_path, **settings, max_job_retries=1, job_retry_seconds=0.1) as server:
        register_sums(server, 20)
        job_id = server.call("POST", EVAL, candidate("far"))["job_id"]
        job = server.wait_for_job(job_id)
        assert job["status"] == "failed"
        assert job["retryable"] is True
        events = [event["event"] for event in server.call("GET", f"/v1alpha/jobs/{job_id}/events")["data"]]
        assert events == ["submitted", "started", "put off", "started", "failed"]
        assert "127.0.0.1" not in job["error"]
        response = server.http.post("/v1alpha/inference/rerank", json={"model": "far", "query": "q", "items": ["a"]})
        assert response.status_code == 502

"""Jobs through a real server: a model server that is away, an end while somebody listens, a copy."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bodies import answer_sums, candidate, lab, register_sums
from live_server import LiveServer
from model_server import ModelServer, last_user_text
from processes import processes_of

RUN_EVAL = "/v1alpha/eval/benchmarks/sums-eq/jobs"
MODELS = {"models": [{"model_id": "m", "provider_id": "lab", "model_type": "llm"}]}


def _events(server: LiveServer, job_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = server.call("GET", f"/v1alpha/jobs/{job_id}/events")["data"]
    return events


def test_a_model_server_that_comes_back(tmp_path: Path) -> None:
    """The job is put off while nobody answers; no row fails for it."""

    def answer(body: dict[str, Any]) -> str:
        left, _, right = last_user_text(body).partition("+")
        return str(int(left) + int(right))

    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    provider = {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": f"http://127.0.0.1:{port}/v1", "timeout_seconds": 5},
    }
    settings = {"providers": [provider], "registered_resources": MODELS, "job_retry_seconds": 0.5}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 20)
        job_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        server.wait_until(job_id, lambda _: any(event["event"] == "put off" for event in _events(server, job_id)))
        with ModelServer(answer, port=port):
            job = server.wait_for_job(job_id)
        assert job["status"] == "completed", job
        result = server.call("GET", f"{RUN_EVAL}/{job_id}/result")
        accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
        assert (accuracy["num_correct"], accuracy["num_failed"]) == (20, 0)


def test_a_model_server_that_dies_midway(tmp_path: Path) -> None:
    """The job waits for it with the reason in its status, and goes on with the rows that have no answer."""
    num_rows, max_concurrency = 120, 4
    answered: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> str:
        answered[last_user_text(body)] += 1
        return answer_sums(body)

    with ExitStack() as stack:
        model_server = stack.enter_context(first := ExitStack()).enter_context(ModelServer(answer, delay_seconds=0.05))
        port = urlsplit(model_server.base_url).port
        assert port is not None
        settings = {
            "providers": [lab(model_server, max_concurrency=max_concurrency)],
            "registered_resources": MODELS,
            "job_retry_seconds": 0.5,
        }
        server = stack.enter_context(LiveServer(tmp_path, **settings))
        register_sums(server, num_rows)
        job_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        server.wait_until(job_id, lambda job: job["progress"] and job["progress"]["done"] >= 30)
        first.close()
        num_answered = len(answered)
        waiting = server.wait_until(job_id, lambda job: job["put_off"] is not None)
        assert waiting["status"] == "scheduled"
        assert waiting["put_off"].startswith("The provider lab cannot be reached")
        assert 30 <= waiting["progress"]["done"] <= num_answered < num_rows
        status = server.call("GET", f"{RUN_EVAL}/{job_id}")
        assert "error" not in status
        assert status["put_off"].startswith("The provider lab cannot be reached")

        with ModelServer(answer, port=port):
            job = server.wait_for_job(job_id)
        assert (job["status"], job["put_off"]) == ("completed", None)
        result = server.call("GET", f"{RUN_EVAL}/{job_id}/result")
        accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
        assert (accuracy["num_correct"], accuracy["num_failed"]) == (num_rows, 0)
        # Asked twice were at most those whose answers were on their way when it died.
        assert len(answered) == num_rows
        assert answered.total() - num_rows <= max_concurrency


def test_a_model_server_that_stays_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        base_url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
    provider = {"provider_id": "lab", "provider_type": "remote::openai", "config": {"base_url": base_url}}
    settings = {
        "providers": [provider],
        "registered_resources": MODELS,
        "job_retry_seconds": 0.1,
        "max_job_retries": 1,
    }
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 20)
        job_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        job = server.wait_for_job(job_id)
        assert (job["status"], job["retryable"], job["attempt"]) == ("failed", True, 2)
        assert [event["event"] for event in _events(server, job_id)] == [
            *("submitted", "started", "put off", "started", "failed")
        ]
        status = server.call("GET", f"{RUN_EVAL}/{job_id}")
        assert (status["error"], status["retryable"]) == (job["error"], True)
        assert "BackendAwayError" in status["log_tail"]


def test_an_end_while_somebody_listens(tmp_path: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server, max_concurrency=1)], "registered_resources": MODELS}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 300)
        job_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        names: list[str] = []

        def listen() -> None:
            headers = {"Accept": "text/event-stream"}
            with httpx.stream(
                "GET", f"{server.url}/v1alpha/jobs/{job_id}/events", headers=headers, timeout=60
            ) as response:
                names.extend(line for line in response.iter_lines() if line.startswith("event: "))

        listener = threading.Thread(target=listen)
        listener.start()
        server.wait_until(job_id, lambda job: job["progress"] and job["progress"]["done"] >= 3)
        started = time.monotonic()
        assert server.stop() == 0
        seconds = time.monotonic() - started
        listener.join(10)
        assert not listener.is_alive()
        assert names == ["event: submitted", "event: started"]
        # Not the five seconds that the drain may take: the stream ended by itself.
        assert seconds < 20
        assert processes_of(server.data_dir) == []


def test_a_copy_goes_on_where_the_original_was(tmp_path: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server, max_concurrency=1)], "registered_resources": MODELS}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 150)
        job_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        server.wait_until(job_id, lambda job: job["progress"] and job["progress"]["done"] >= 10)
        other = tmp_path / "other"
        other.mkdir()
        server.paddock("backup", str(other / "data"), "--data-dir", str(server.data_dir))
        server.call("DELETE", f"/v1alpha/jobs/{job_id}")
        num_asked = len(model_server.requests)
        with LiveServer(other, **settings) as copy:
            job = copy.wait_for_job(job_id)
            assert (job["status"], job["attempt"]) == ("completed", 2)
            assert len(model_server.requests) - num_asked <= 140  # rows that the copy knew were not asked again
        assert server.call("GET", f"/v1alpha/jobs/{job_id}")["status"] == "cancelled"

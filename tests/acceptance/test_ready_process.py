"""The process that waits for the next job: it does that job as a new one would, and outlives no server."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil

from bodies import candidate, lab, register_sums
from live_server import LiveServer
from model_server import ModelServer

_JOBS = "/v1alpha/eval/benchmarks/sums-eq/jobs"


def _waiting(server: LiveServer) -> psutil.Process:
    """The process that is ready, once there is one."""
    deadline = time.monotonic() + 30
    while True:
        for child in psutil.Process(server.pid).children():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                if "wait-for-job" in child.cmdline():
                    return child
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def _evaluate(server: LiveServer) -> str:
    job_id: str = server.call("POST", _JOBS, candidate("sums-1"))["job_id"]
    job = server.wait_for_job(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    return job_id


def _settings(model_server: ModelServer, **more: Any) -> dict[str, Any]:
    models = [{"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"}]
    return {"providers": [lab(model_server)], "registered_resources": {"models": models}, **more}


def test_the_next_job_takes_the_process_that_waits(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server)) as server:
        register_sums(server, 8)
        first = _evaluate(server)
        waiting = _waiting(server)
        second = _evaluate(server)
        assert f"{second} (eval) runs as process {waiting.pid}, attempt 1." in server.log
        assert f"{first} (eval) runs as process {waiting.pid}," not in server.log
        results = [server.call("GET", f"{_JOBS}/{job_id}/result")["scores"] for job_id in (first, second)]
        assert results[0] == results[1]
        waiting.wait(10)  # done
        # One that was killed while it waited is not missed.
        _waiting(server).kill()
        _evaluate(server)
        last = _waiting(server)
        assert server.stop() == 0
        assert not last.is_running()


def test_its_output_is_the_jobs_log(tmp_path: Path, model_server: ModelServer) -> None:
    settings = _settings(model_server, max_job_retries=0)
    nobody = {
        "provider_id": "nobody",
        "provider_type": "remote::openai",
        "config": {"base_url": "http://127.0.0.1:9/v1"},
    }
    settings["providers"] = [lab(model_server), nobody]
    settings["registered_resources"] = {
        "models": [
            {"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"},
            {"model_id": "away", "provider_id": "nobody", "model_type": "llm"},
        ]
    }
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 1)
        _evaluate(server)
        pid = _waiting(server).pid
        job_id = server.call("POST", _JOBS, candidate("away"))["job_id"]
        assert server.wait_for_job(job_id)["status"] == "failed"
        assert f"{job_id} (eval) runs as process {pid}" in server.log
        assert "cannot be reached" in server.http.get(f"/v1alpha/jobs/{job_id}/logs").text


def test_a_killed_server_takes_it_along(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server)) as server:
        register_sums(server, 1)
        _evaluate(server)
        waiting = _waiting(server)
        server.kill()
        psutil.wait_procs([waiting], timeout=10)
        assert not waiting.is_running()


def test_a_server_without_jobs_or_that_shall_have_none_keeps_none(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server, ready_job_process=False)) as server:
        register_sums(server, 1)
        _evaluate(server)
        time.sleep(2)
        assert [
            child.cmdline()[-1] for child in psutil.Process(server.pid).children() if "wait-for-job" in child.cmdline()
        ] == []

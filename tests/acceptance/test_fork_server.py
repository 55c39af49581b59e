"""The fork server: its forks do jobs as processes of their own would, it is not missed, and it outlives no server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil

from bodies import answer_sums, candidate, lab, register_sums
from live_server import LiveServer
from model_server import ModelServer
from processes import fork_servers, wait_until_it_forks

_JOBS = "/v1alpha/eval/benchmarks/sums-eq/jobs"


def _ready_fork_server(server: LiveServer) -> psutil.Process:
    deadline = time.monotonic() + 30
    while not (found := fork_servers(server.pid)):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    (fork_server,) = found
    wait_until_it_forks(fork_server.pid)
    return fork_server


def _pid(server: LiveServer, job_id: str, attempt: int = 1) -> int:
    """The process that the job's attempt ran in, or runs in."""
    return int(server.log.split(f"{job_id} (eval) runs as process ")[attempt].partition(",")[0])


def _evaluate(server: LiveServer) -> str:
    job_id: str = server.call("POST", _JOBS, candidate("sums-1"))["job_id"]
    job = server.wait_for_job(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    return job_id


def _settings(model_server: ModelServer, **more: Any) -> dict[str, Any]:
    models = [{"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"}]
    return {"providers": [lab(model_server)], "registered_resources": {"models": models}, **more}


def test_jobs_are_forks_of_one_process(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server)) as server:
        register_sums(server, 8)
        assert fork_servers(server.pid) == []
        jobs = [_evaluate(server)]
        fork_server = _ready_fork_server(server)
        jobs += [_evaluate(server), _evaluate(server)]
        assert fork_servers(server.pid) == [fork_server]
        assert fork_server.num_threads() == 1
        assert len({_pid(server, job_id) for job_id in jobs} | {fork_server.pid}) == 4
        results = [server.call("GET", f"{_JOBS}/{job_id}/result")["scores"] for job_id in jobs]
        assert results[0] == results[1] == results[2]
        # What is done leaves nothing behind there, be it a process or a descriptor.
        deadline = time.monotonic() + 10
        while fork_server.children():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        num_descriptors = fork_server.num_fds()
        _evaluate(server)
        while fork_server.children():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert fork_server.num_fds() == num_descriptors
        # One that was killed is not missed.
        fork_server.kill()
        _evaluate(server)
        last = _ready_fork_server(server)
        assert server.stop() == 0
        assert not last.is_running()


def _slow_model_server(seconds: float) -> ModelServer:
    return ModelServer(answer_sums, delay_seconds=seconds)


def _start(server: LiveServer) -> tuple[str, psutil.Process]:
    """A job that is asking its model, and its process."""
    job_id = server.call("POST", _JOBS, candidate("sums-1"))["job_id"]
    server.wait_until(job_id, lambda job: job["status"] == "in_progress")
    while f"{job_id} (eval) runs as process " not in server.log:
        time.sleep(0.02)
    return job_id, psutil.Process(_pid(server, job_id))


def test_jobs_at_once_are_processes_of_their_own(tmp_path: Path) -> None:
    with (
        _slow_model_server(1.0) as model_server,
        LiveServer(tmp_path, **_settings(model_server, max_running_jobs=3)) as server,
    ):
        register_sums(server, 20)
        _evaluate(server)
        fork_server = _ready_fork_server(server)
        (first, a), (second, b), (third, c) = (_start(server) for _ in range(3))
        assert [process.ppid() for process in (a, b, c)] == [fork_server.pid] * 3
        assert [os.getsid(process.pid) for process in (a, b, c)] == [a.pid, b.pid, c.pid]
        server.call("DELETE", f"{_JOBS}/{first}")
        b.kill()
        assert server.wait_for_job(first)["status"] == "cancelled"
        assert server.wait_for_job(second)["attempt"] == 2
        assert server.wait_for_job(third)["attempt"] == 1
        a.wait(10)


def test_forks_end_with_a_killed_fork_server_and_their_jobs_go_on(tmp_path: Path) -> None:
    with _slow_model_server(1.0) as model_server, LiveServer(tmp_path, **_settings(model_server)) as server:
        register_sums(server, 20)
        _evaluate(server)
        fork_server = _ready_fork_server(server)
        job_id, process = _start(server)
        assert process.parent() == fork_server
        process.suspend()  # even then
        fork_server.kill()
        process.wait(10)
        job = server.wait_for_job(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)


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
        _ready_fork_server(server)
        job_id = server.call("POST", _JOBS, candidate("away"))["job_id"]
        assert server.wait_for_job(job_id)["status"] == "failed"
        assert "cannot be reached" in server.http.get(f"/v1alpha/jobs/{job_id}/logs").text


def test_a_killed_server_takes_it_along(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server)) as server:
        register_sums(server, 1)
        _evaluate(server)
        fork_server = _ready_fork_server(server)
        server.kill()
        psutil.wait_procs([fork_server], timeout=10)
        assert not fork_server.is_running()


def test_without_it_each_job_has_a_process_started_for_it(tmp_path: Path, model_server: ModelServer) -> None:
    with LiveServer(tmp_path, **_settings(model_server, ready_job_process=False)) as server:
        register_sums(server, 1)
        _evaluate(server)
        assert fork_servers(server.pid) == []

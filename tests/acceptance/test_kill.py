"""Promise one: kill it anywhere. `kill -9` in the middle of a training and an evaluation, then start again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bodies import candidate, fine_tune, lab, register_chats, register_sums, sums
from live_server import LiveServer, processes_of
from model_server import ModelServer

NUM_ROWS = 600
NUM_EPOCHS = 40


def _models(tiny_llama: Path) -> dict[str, Any]:
    return {
        "models": [
            {"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"},
            {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
        ]
    }


def test_both_jobs_complete_and_no_row_is_lost(tmp_path: Path, tiny_llama: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server, max_concurrency=2)], "registered_resources": _models(tiny_llama)}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, NUM_ROWS)
        register_chats(server)
        # Training first: it takes some seconds to load torch, in which the evaluation would be done.
        body = fine_tune("tune", "tiny", epochs=NUM_EPOCHS)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", body)
        server.wait_until("tune", lambda job: job["progress"] and job["progress"]["done"] >= 20)
        eval_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("sums-1"))["job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 50)
        server.call("POST", "/v1beta/datasetio/append-rows/sums", {"rows": sums(NUM_ROWS, 3)})
        before = {job_id: server.call("GET", f"/v1alpha/jobs/{job_id}") for job_id in (eval_id, "tune")}
        assert {job["status"] for job in before.values()} == {"in_progress"}
        server.kill()

        num_asked = len(model_server.requests)
        assert num_asked < NUM_ROWS
        server.start()
        jobs = {job_id: server.wait_for_job(job_id) for job_id in (eval_id, "tune")}
        assert {job["status"] for job in jobs.values()} == {"completed"}, jobs
        assert {job["attempt"] for job in jobs.values()} == {2}

        result = server.call("GET", f"/v1alpha/eval/benchmarks/sums-eq/jobs/{eval_id}/result")
        assert [row["generated_answer"] for row in result["generations"]] == [str(2 * i + 1) for i in range(NUM_ROWS)]
        accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
        assert (accuracy["num_correct"], accuracy["num_failed"]) == (NUM_ROWS, 0)
        # Rows that were recorded are not asked again: at most those in flight or in the last unwritten batch.
        assert len(model_server.requests) <= NUM_ROWS + (num_asked - before[eval_id]["progress"]["done"]) + 4
        assert server.call("GET", "/v1beta/datasets/sums")["metadata"]["num_rows"] == NUM_ROWS + 3

        steps = [point["step"] for point in server.call("GET", "/v1alpha/jobs/tune/metrics")["data"]]
        assert steps == list(range(1, NUM_EPOCHS * 16 + 1))
        status = server.call("GET", "/v1alpha/post-training/job/status", job_uuid="tune")
        assert [checkpoint["epoch"] for checkpoint in status["checkpoints"]] == list(range(1, NUM_EPOCHS + 1))
        server.stop()
        assert processes_of(server.data_dir) == []


def test_a_polite_end_hands_jobs_back(tmp_path: Path, tiny_llama: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server, max_concurrency=1)], "registered_resources": _models(tiny_llama)}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 100)
        eval_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("sums-1"))["job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 5)
        assert server.stop() == 0
        assert processes_of(server.data_dir) == []
        server.start()
        assert server.wait_for_job(eval_id)["status"] == "completed"
        events = [event["event"] for event in server.call("GET", f"/v1alpha/jobs/{eval_id}/events")["data"]]
        assert events == ["submitted", "started", "handed back", "started", "completed"]
        # Nothing was lost on the way: a polite end stores what is in flight.
        assert len(model_server.requests) == 100


def test_cancel_stops_the_process(tmp_path: Path, tiny_llama: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server)], "registered_resources": _models(tiny_llama)}
    with LiveServer(tmp_path, **settings) as server:
        register_chats(server)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", fine_tune("tune", "tiny", epochs=1000))
        server.wait_until("tune", lambda job: job["progress"] and job["progress"]["done"] >= 3)
        assert any("run-job" in process for process in processes_of(server.data_dir))
        response = server.http.post("/v1alpha/post-training/job/cancel", json={"job_uuid": "tune"})
        assert response.status_code == 200
        assert server.call("GET", "/v1alpha/jobs/tune")["status"] == "cancelled"
        for _ in range(200):
            if not any("run-job" in process for process in processes_of(server.data_dir)):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the job's process is still there")
        assert server.call("GET", "/v1alpha/jobs/tune")["status"] == "cancelled"

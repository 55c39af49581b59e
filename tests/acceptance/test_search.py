"""A hyperparameter search on a live server with one place for jobs: killed in the middle, and judged by a benchmark."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bodies import fine_tune, register_chats
from live_server import LiveServer
from processes import processes_of

pytestmark = pytest.mark.timeout(900)  # several trainings one after the other, each in a process that loads torch

LR = "/training_config/optimizer_config/lr"
RATES = [1e-5, 1e-3, 1e-2]
EPOCHS = 12  # so that a trial is still under way when it is killed


def _settings(tiny_llama: Path) -> dict[str, Any]:
    model = {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"}
    # With one place, a search that took it would wait for its trials for ever.
    return {"registered_resources": {"models": [model]}, "max_running_jobs": 1}


def _search(epochs: int = 2, **config: Any) -> dict[str, Any]:
    body = fine_tune("s", "tiny", epochs=epochs, max_validation_steps=-1)
    body["training_config"]["data_config"]["validation_dataset_id"] = "chats"
    space = {LR: {"type": "categorical", "choices": RATES}}
    return body | {"hyperparam_search_config": {"space": space, "sampler": {"type": "grid"}} | config}


def _trials(server: LiveServer) -> dict[str, Any]:
    answer: dict[str, Any] = server.call("GET", "/v1alpha/post-training/jobs/s/trials")
    return answer


def test_a_kill_loses_no_finished_trial(tmp_path: Path, tiny_llama: Path) -> None:
    with LiveServer(tmp_path, **_settings(tiny_llama)) as server:
        register_chats(server)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", _search(EPOCHS))
        server.wait_until("s", lambda job: job["progress"] and job["progress"]["done"] >= 1, 200)
        while len(_trials(server)["data"]) < 2:
            time.sleep(0.05)
        server.wait_until("s:trial-2", lambda job: job["progress"] and job["progress"]["done"] >= 3, 200)
        before = _trials(server)["data"]
        server.kill()

        server.start()
        job = server.wait_for_job("s", seconds=400)
        assert (job["status"], job["attempt"]) == ("completed", 2), job
        answer = _trials(server)
        assert answer["data"][0] == before[0]
        assert [trial["parameters"] for trial in answer["data"][:2]] == [trial["parameters"] for trial in before]
        assert [trial["number"] for trial in answer["data"]] == [1, 2, 3]
        assert sorted(trial["parameters"][LR] for trial in answer["data"]) == RATES
        # What was finished was not done again; what was under way went on.
        attempts = [server.call("GET", f"/v1alpha/jobs/s:trial-{n}")["attempt"] for n in (1, 2, 3)]
        assert attempts == [1, 2, 1]
        best = answer["data"][answer["best"] - 1]
        status = server.call("GET", "/v1alpha/post-training/job/status", job_uuid="s")
        assert [c["identifier"] for c in status["checkpoints"]] == [f"s:epoch-{n + 1}" for n in range(EPOCHS)]
        assert status["checkpoints"][-1]["training_metrics"]["validation_loss"] == best["value"]
        # The checkpoint is a model at once.
        message = {"role": "user", "content": "say 1"}
        said = server.call(
            "POST", "/v1/chat/completions", {"model": "s:epoch-2", "messages": [message], "max_tokens": 4}
        )
        assert said["choices"][0]["message"]["role"] == "assistant"
        server.stop()
        assert processes_of(server.data_dir) == []


def test_a_benchmark_judges_the_trials(tmp_path: Path, tiny_llama: Path) -> None:
    with LiveServer(tmp_path, **_settings(tiny_llama)) as server:
        register_chats(server)
        rows = [{"question": f"say {i}", "answer": "1"} for i in range(6)]
        body = {"dataset_id": "exam", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": rows}}
        server.http.post("/v1beta/datasets", json=body).raise_for_status()
        body = {"benchmark_id": "b", "dataset_id": "exam", "scoring_functions": ["basic::equality", "basic::subset_of"]}
        server.http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()
        objective = {
            "benchmark_id": "b",
            "scoring_function": "basic::subset_of",
            "aggregation": "accuracy",
            "num_examples": 4,
        }
        request = _search(objective=objective, space={LR: {"type": "categorical", "choices": RATES[1:]}})
        request["training_config"]["data_config"]["validation_dataset_id"] = None

        refused = server.http.post(
            "/v1alpha/post-training/supervised-fine-tune",
            json=_search(objective=objective | {"aggregation": "categorical_count"}),
        )
        assert refused.json()["errors"][0]["pointer"] == "/hyperparam_search_config/objective/aggregation"

        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", request)
        server.wait_until("s", lambda job: job["status"] == "in_progress")
        # The benchmark and its rows belong to the search as long as it runs; what is appended is not scored.
        assert server.http.delete("/v1alpha/eval/benchmarks/b").status_code == 409
        server.call("POST", "/v1beta/datasetio/append-rows/exam", {"rows": rows})
        assert server.wait_for_job("s", seconds=400)["status"] == "completed"
        answer = _trials(server)
        assert answer["objective"] == objective
        for trial in answer["data"]:
            result = server.call("GET", f"/v1alpha/eval/benchmarks/b/jobs/{trial['eval_job_id']}/result")
            assert list(result["scores"]) == ["basic::subset_of"]
            accuracy = result["scores"]["basic::subset_of"]["aggregated_results"]["accuracy"]
            assert (trial["status"], trial["value"], accuracy["num_total"]) == ("completed", accuracy["accuracy"], 4)
        assert len(server.call("GET", "/v1alpha/post-training/job/artifacts", job_uuid="s")["checkpoints"]) == 2

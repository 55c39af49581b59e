"""`kill -9` in the middle of an evaluation by log-likelihood: what is recorded is not asked for again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bodies import candidate, lab
from live_server import LiveServer
from model_server import ModelServer
from paddock.storage import tables
from paddock.storage.database import Database
from processes import processes_of

NUM_ROWS = 300


def echo(body: dict[str, Any]) -> dict[str, Any]:
    """What vLLM answers to prompts with `echo`: a character is a token, and a "b" is the likeliest."""
    choices = []
    for index, prompt in enumerate(body["prompt"]):
        log_probs = [None, *(-0.5 if letter == "b" else -2.0 for letter in prompt[1:])]
        choices.append({"index": index, "text": prompt, "logprobs": {"tokens": [], "token_logprobs": log_probs}})
    return {"choices": choices}


def _recorded(server: LiveServer) -> set[int]:
    """The rows whose likelihoods are stored."""
    database = Database("sqlite", sqlite_file=server.data_dir / "paddock.db")
    try:
        with database.read() as connection:
            return set(connection.execute(sa.select(tables.generations.c.row_index)).scalars())
    finally:
        database.close()


def test_an_evaluation_by_log_likelihood_goes_on(tmp_path: Path) -> None:
    with ModelServer(echo, delay_seconds=0.02) as model_server:
        settings = {
            "providers": [lab(model_server, max_concurrency=2)],
            "registered_resources": {"models": [{"model_id": "m", "provider_id": "lab", "model_type": "llm"}]},
            "lease_seconds": 2,
        }
        with LiveServer(tmp_path, **settings) as server:
            rows = [{"question": f"{i}:", "choices": ["a", "b", "c"], "answer": "b"} for i in range(NUM_ROWS)]
            dataset = {"dataset_id": "exam", "purpose": "eval/question-answer"}
            server.call("POST", "/v1beta/datasets", dataset | {"source": {"type": "rows", "rows": rows}})
            benchmark = {"benchmark_id": "exam", "dataset_id": "exam", "scoring_functions": ["loglikelihood::acc"]}
            server.call("POST", "/v1alpha/eval/benchmarks", benchmark)
            job_id = server.call("POST", "/v1alpha/eval/benchmarks/exam/jobs", candidate("m"))["job_id"]
            server.wait_until(job_id, lambda job: job["progress"] and job["progress"]["done"] >= 30)
            server.kill()
            deadline = time.monotonic() + 10
            while left := processes_of(server.data_dir):
                assert time.monotonic() < deadline, left
                time.sleep(0.05)
            recorded = _recorded(server)
            assert 30 <= len(recorded) < NUM_ROWS
            server.start()
            job = server.wait_for_job(job_id)
            assert (job["status"], job["attempt"]) == ("completed", 2)
            asked = Counter(body["prompt"][0] for _, body, _ in model_server.requests)
            assert len(asked) == NUM_ROWS
            assert {asked[f"{i}:"] for i in recorded} == {1}
            result = server.call("GET", f"/v1alpha/eval/benchmarks/exam/jobs/{job_id}/result")
            assert {tuple(c["log_likelihood"] for c in row["choices"]) for row in result["generations"]} == {
                (-4.0, -2.5, -4.0)
            }
            accuracy = result["scores"]["loglikelihood::acc"]["aggregated_results"]["accuracy"]
            assert (accuracy["num_correct"], accuracy["num_total"], accuracy["num_failed"]) == (NUM_ROWS, NUM_ROWS, 0)
            server.stop()

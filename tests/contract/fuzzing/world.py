"""A live server with something under every kind of id, small enough that accepted jobs end soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live_server import LiveServer
from model_server import ModelServer

IDS = {
    "dataset_id": ["exam", "chats", "team/pairs", "empty"],
    "benchmark_id": ["exam-eq", "team/exam-judged"],
    "job_id": ["JOB"],  # the evaluation that `_seed_jobs` runs
    "job_uuid": ["tuned"],
    "model": ["pupil", "ranker", "tiny"],
    "finetuned_model": ["tiny", "tuned:epoch-1"],
    "judge_model": ["judge"],
    "dtype": ["fp32", "bf16"],
    "checkpoint_dir": ["runs/a"],
}
"""Field or parameter → ids that are there."""


@contextmanager
def served(folder: Path, tiny_llama: Path, *, with_jobs: bool = True, **settings: Any) -> Iterator[LiveServer]:
    """The server, seeded; on the other side of its provider `lab` is a stand-in that answers anything."""
    models = [
        *({"model_id": name, "provider_id": "lab", "model_type": "llm"} for name in ("pupil", "judge")),
        {"model_id": "ranker", "provider_id": "lab", "model_type": "rerank"},
        {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
    ]
    with ModelServer(_answer) as backend:
        provider = {
            "provider_id": "lab",
            "provider_type": "remote::openai",
            "config": {"base_url": backend.base_url, "timeout_seconds": 5},
        }
        settings = {
            "providers": [provider],
            "registered_resources": {"models": models},
            "max_running_jobs": 1,
            "cancel_grace_seconds": 0.2,
            **settings,
        }
        with LiveServer(folder, **settings) as server:
            _seed(server)
            if with_jobs:
                _seed_jobs(server)
            yield server


def _answer(body: dict[str, Any]) -> Any:
    if "documents" in body:
        return {"results": [{"index": i, "relevance_score": float(i % 7)} for i in range(len(body["documents"]))]}
    return "Total rating: 4"


def _seed(server: LiveServer) -> None:
    questions = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(8)]
    chats = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": str(i)}]}
        for i in range(8)
    ]
    pairs = [{"prompt": f"say {i}", "chosen": "yes", "rejected": "no"} for i in range(8)]
    for dataset_id, purpose, rows in (
        ("exam", "eval/question-answer", questions),
        ("chats", "post-training/messages", chats),
        ("team/pairs", "post-training/messages", pairs),
        ("empty", "eval/question-answer", []),
        ("grown", "eval/question-answer", []),
    ):
        body = {"dataset_id": dataset_id, "purpose": purpose, "source": {"type": "rows", "rows": rows}}
        server.call("POST", "/v1beta/datasets", body)
    judge = {"type": "llm_as_judge", "judge_model": "judge", "judge_score_regexes": [r"(\d)"]}
    server.call(
        "POST",
        "/v1/scoring-functions",
        {"scoring_fn_id": "judged", "description": "", "return_type": {"type": "number"}, "params": judge},
    )
    for benchmark_id, functions in (("exam-eq", ["basic::equality"]), ("team/exam-judged", ["judged"])):
        body = {"benchmark_id": benchmark_id, "dataset_id": "exam", "scoring_functions": functions}
        server.call("POST", "/v1alpha/eval/benchmarks", body)


def _seed_jobs(server: LiveServer) -> None:
    config = {"eval_candidate": {"model": "pupil", "sampling_params": {}}}
    job_id = server.call("POST", "/v1alpha/eval/benchmarks/exam-eq/jobs", config)["job_id"]
    training = {
        "job_uuid": "tuned",
        "model": "tiny",
        "training_config": {
            "n_epochs": 1,
            "dtype": "fp32",
            "data_config": {"dataset_id": "chats", "batch_size": 2, "shuffle": False, "data_format": "dialog"},
        },
        "hyperparam_search_config": {},
        "logger_config": {},
    }
    server.call("POST", "/v1alpha/post-training/supervised-fine-tune", training)
    # The engine's first answer takes the time that it needs to start, on a busy machine a minute.
    ranking = {"model": "tiny", "query": "q", "items": ["a"]}
    server.http.post("/v1alpha/inference/rerank", json=ranking, timeout=300).raise_for_status()
    for job in (job_id, "tuned"):
        assert server.wait_for_job(job, seconds=300)["status"] == "completed", server.log
    IDS["job_id"] = [job_id]

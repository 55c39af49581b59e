"""Request bodies that several acceptance tests send, and what the stand-in model server makes of them."""

from __future__ import annotations

from typing import Any

from live_server import LiveServer
from model_server import ModelServer, last_user_text


def lab(model_server: ModelServer, **config: Any) -> dict[str, Any]:
    """The settings' entry of a remote provider."""
    return {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": model_server.base_url} | config,
    }


def answer_sums(body: dict[str, Any]) -> str:
    """A model that knows sums, and a judge that finds everything worth 4 of 5."""
    text = last_user_text(body)
    if body["model"] == "judge-1":
        return "Total rating: 4"
    left, _, right = text.partition("+")
    return str(int(left) + int(right)) if left.strip().isdecimal() and right.strip().isdecimal() else "I don't know"


def sums(start: int, count: int) -> list[dict[str, Any]]:
    """Rows of an exam that the stand-in model passes."""
    return [{"question": f"{i} + {i + 1}", "answer": str(2 * i + 1)} for i in range(start, start + count)]


def register_sums(server: LiveServer, count: int) -> None:
    """The dataset `sums` and the benchmark `sums-eq` on it."""
    source = {"type": "rows", "rows": sums(0, count)}
    body = {"dataset_id": "sums", "purpose": "eval/question-answer", "source": source}
    server.http.post("/v1beta/datasets", json=body).raise_for_status()
    body = {"benchmark_id": "sums-eq", "dataset_id": "sums", "scoring_functions": ["basic::equality"]}
    server.http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()


def register_chats(server: LiveServer, count: int = 64) -> None:
    """The dataset `chats`: short conversations to train on."""
    rows = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i} " * 3}]}
        for i in range(count)
    ]
    body = {"dataset_id": "chats", "purpose": "post-training/messages", "source": {"type": "rows", "rows": rows}}
    server.http.post("/v1beta/datasets", json=body).raise_for_status()


def candidate(model: str) -> dict[str, Any]:
    """A benchmark configuration for one model, greedy."""
    return {"eval_candidate": {"type": "model", "model": model, "sampling_params": {"strategy": {"type": "greedy"}}}}


def fine_tune(job_uuid: str, model: str, *, epochs: int = 1, steps: int = -1, **training: Any) -> dict[str, Any]:
    """A LoRA fine-tuning of `model` on `chats`."""
    return {
        "job_uuid": job_uuid,
        "model": model,
        "algorithm_config": {
            "type": "LoRA",
            "lora_attn_modules": ["q_proj", "v_proj"],
            "apply_lora_to_mlp": True,
            "apply_lora_to_output": False,
            "rank": 4,
            "alpha": 8,
        },
        "training_config": training_config("chats", epochs=epochs, steps=steps, **training),
        "hyperparam_search_config": {},
        "logger_config": {},
    }


def training_config(dataset_id: str, *, epochs: int = 1, steps: int = -1, **more: Any) -> dict[str, Any]:
    """Small batches of a dataset of conversations."""
    return {
        "n_epochs": epochs,
        "max_steps_per_epoch": steps,
        "data_config": {"dataset_id": dataset_id, "batch_size": 4, "shuffle": True, "data_format": "dialog"},
        "optimizer_config": {"optimizer_type": "adamw", "lr": 1e-3, "weight_decay": 0.0, "num_warmup_steps": 2},
        "dtype": "fp32",
    } | more

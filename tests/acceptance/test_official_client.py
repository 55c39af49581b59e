"""`llama-stack-client` 0.4.7, unmodified, drives all 18 operations of the contract on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_stack_client
import pytest
from llama_stack_client import LlamaStackClient

from bodies import candidate, fine_tune, lab, sums, training_config
from live_server import LiveServer
from model_server import ModelServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def client(tmp_path: Path, tiny_llama: Path, minilm: Path, model_server: ModelServer) -> Iterator[LlamaStackClient]:
    models = [
        {"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"},
        {"model_id": "judge-1", "provider_id": "lab", "model_type": "llm"},
        {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
        {"model_id": "minilm", "provider_id": "local", "provider_model_id": str(minilm), "model_type": "rerank"},
    ]
    with LiveServer(tmp_path, providers=[lab(model_server)], registered_resources={"models": models}) as server:
        yield LlamaStackClient(base_url=server.url, max_retries=0)


def _until(get: Callable[[], Any], status: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while (found := get()).status != status:
        assert found.status in ("scheduled", "in_progress"), found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_datasets(client: LlamaStackClient) -> None:
    source = {"type": "rows", "rows": sums(0, 3)}
    client.beta.datasets.register(dataset_id="team/sums", purpose="eval/question-answer", source=source)
    assert [dataset.identifier for dataset in client.beta.datasets.list()] == ["team/sums"]
    client.beta.datasets.appendrows("team/sums", rows=sums(3, 2))
    dataset = client.beta.datasets.retrieve("team/sums")
    assert (dataset.purpose, dataset.metadata["num_rows"]) == ("eval/question-answer", 5)
    page = client.beta.datasets.iterrows("team/sums", start_index=1, limit=3)
    assert (page.data, page.has_more) == (sums(1, 3), True)
    assert client.beta.datasets.iterrows("team/sums").data == sums(0, 5)
    with pytest.raises(llama_stack_client.NotFoundError):
        client.beta.datasets.retrieve("nowhere")


def test_evaluation(client: LlamaStackClient) -> None:
    rows = [*sums(0, 9), {"question": "what?", "answer": "42"}]
    source = {"type": "rows", "rows": rows}
    client.beta.datasets.register(dataset_id="sums", purpose="eval/question-answer", source=source)
    functions = ["basic::equality", "llm-as-judge::base"]
    client.alpha.benchmarks.register(benchmark_id="meta/sums", dataset_id="sums", scoring_functions=functions)
    assert [benchmark.identifier for benchmark in client.alpha.benchmarks.list()] == ["meta/sums"]
    assert client.alpha.benchmarks.retrieve("meta/sums").dataset_id == "sums"
    config = candidate("sums-1") | {
        "scoring_params": {
            "basic::equality": {"type": "basic", "aggregation_functions": ["accuracy"]},
            "llm-as-judge::base": {
                "type": "llm_as_judge",
                "judge_model": "judge-1",
                "prompt_template": "Rate {generated_answer} for {input_query}, expected {expected_answer}.",
                "judge_score_regexes": [r"Total rating: (\d)"],
                "aggregation_functions": ["average"],
            },
        }
    }
    job = client.alpha.eval.run_eval("meta/sums", benchmark_config=config)
    assert job.status == "scheduled"
    _until(lambda: client.alpha.eval.jobs.status(job.job_id, benchmark_id="meta/sums"), "completed")
    result = client.alpha.eval.jobs.retrieve(job.job_id, benchmark_id="meta/sums")
    assert [generation["generated_answer"] for generation in result.generations[:2]] == ["1", "3"]
    accuracy = result.scores["basic::equality"].aggregated_results["accuracy"]
    assert (accuracy["accuracy"], accuracy["num_correct"], accuracy["num_total"]) == (0.9, 9, 10)
    assert accuracy["ci95"][0] < 0.9 < accuracy["ci95"][1]
    assert result.scores["llm-as-judge::base"].aggregated_results["average"]["average"] == 4

    again = client.alpha.eval.evaluate_rows(
        "meta/sums", input_rows=rows[:2], scoring_functions=["basic::equality"], benchmark_config=candidate("sums-1")
    )
    assert [row["score"] for row in again.scores["basic::equality"].score_rows] == [1, 1]

    with pytest.raises(llama_stack_client.ConflictError):
        client.alpha.eval.jobs.cancel(job.job_id, benchmark_id="meta/sums")
    cancelled = client.alpha.eval.run_eval("meta/sums", benchmark_config=config)
    client.alpha.eval.jobs.cancel(cancelled.job_id, benchmark_id="meta/sums")
    assert client.alpha.eval.jobs.status(cancelled.job_id, benchmark_id="meta/sums").status == "cancelled"


def test_rerank(client: LlamaStackClient) -> None:
    passages = [
        "Bread rises because yeast makes carbon dioxide.",
        "The Moon's gravity pulls the oceans and makes the tides.",
        {"type": "text", "text": "A violin has four strings."},
    ]
    ranked = client.alpha.inference.rerank(model="minilm", query="Why does the sea rise and fall?", items=passages)
    assert ranked[0].index == 1
    assert sorted(item.index for item in ranked) == [0, 1, 2]
    best = client.alpha.inference.rerank(model="minilm", query="music", items=passages, max_num_results=1)
    assert [item.index for item in best] == [2]


def test_post_training(client: LlamaStackClient) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i}"}]}
        for i in range(16)
    ]
    source = {"type": "rows", "rows": rows}
    client.beta.datasets.register(dataset_id="chats", purpose="post-training/messages", source=source)
    training = client.alpha.post_training
    body = fine_tune("tune-1", "tiny", epochs=2)
    body["training_config"]["data_config"]["validation_dataset_id"] = "chats"
    assert training.supervised_fine_tune(**body).job_uuid == "tune-1"
    assert "tune-1" in [job.job_uuid for job in training.job.list()]
    status = _until(lambda: training.job.status(job_uuid="tune-1"), "completed")
    assert [checkpoint.epoch for checkpoint in status.checkpoints] == [1, 2]
    artifacts = training.job.artifacts(job_uuid="tune-1")
    metrics = artifacts.checkpoints[-1].training_metrics
    assert metrics is not None
    assert 0 < metrics.validation_loss < 10
    tuned = artifacts.checkpoints[-1].identifier
    assert tuned == "tune-1:epoch-2"

    pairs = [{"prompt": f"say {i}", "chosen": f"{i}", "rejected": "no"} for i in range(8)]
    client.beta.datasets.register(
        dataset_id="pairs", purpose="post-training/messages", source={"type": "rows", "rows": pairs}
    )
    training.preference_optimize(
        job_uuid="prefer-1",
        finetuned_model=tuned,
        algorithm_config={"beta": 0.1, "loss_type": "sigmoid"},
        training_config=training_config("pairs"),
        hyperparam_search_config={},
        logger_config={},
    )
    status = _until(lambda: training.job.status(job_uuid="prefer-1"), "completed")
    assert [checkpoint.identifier for checkpoint in status.checkpoints] == ["prefer-1:epoch-1"]

    # A checkpoint's identifier is at once a model for evaluation.
    client.beta.datasets.register(
        dataset_id="exam", purpose="eval/question-answer", source={"type": "rows", "rows": sums(0, 4)}
    )
    client.alpha.benchmarks.register(benchmark_id="exam-eq", dataset_id="exam", scoring_functions=["basic::equality"])
    config = candidate("prefer-1:epoch-1")
    config["eval_candidate"]["sampling_params"]["max_tokens"] = 4
    job = client.alpha.eval.run_eval("exam-eq", benchmark_config=config)
    _until(lambda: client.alpha.eval.jobs.status(job.job_id, benchmark_id="exam-eq"), "completed")

    training.supervised_fine_tune(**fine_tune("tune-2", "tiny", epochs=500))
    training.job.cancel(job_uuid="tune-2")
    assert training.job.status(job_uuid="tune-2").status == "cancelled"


def test_support_routes(client: LlamaStackClient) -> None:
    assert client.inspect.health().status == "OK"
    assert client.inspect.version().version
    assert {"/v1alpha/inference/rerank", "/v1beta/datasets"} <= {route.route for route in client.routes.list()}
    assert [provider.provider_id for provider in client.providers.list()] == ["local", "lab"]
    assert {"sums-1", "tiny"} <= {model.id for model in client.models.list()}
    assert "basic::equality" in [function.identifier for function in client.scoring_functions.list()]
    scored = client.scoring.score(
        input_rows=[{"generated_answer": "a", "expected_answer": "a"}], scoring_functions={"basic::equality": None}
    )
    assert scored.results["basic::equality"].score_rows[0]["score"] == 1

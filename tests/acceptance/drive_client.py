"""Calls every method that one version of `llama-stack-client` has for our operations, and asserts what comes back.

Run by test_official_clients.py as a program of its own, with that version's folder in PYTHONPATH:
`drive_client.py URL PROXY_URL sync|async [too_many]`. The client checks each answer against its own types
(`_strict_response_validation`); a failed assertion ends the program with its traceback. On success it prints which
methods were called and which were left out, as JSON. One text serves all versions: what differs is asked of the client.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import llama_stack_client
from llama_stack_client import AsyncLlamaStackClient, LlamaStackClient

from bodies import candidate, fine_tune, sums, training_config

AREAS = (
    *("datasets", "beta.datasets", "benchmarks", "alpha.benchmarks", "alpha.eval", "alpha.eval.jobs"),
    *("alpha.post_training", "alpha.post_training.job", "alpha.inference", "scoring", "scoring_functions"),
    *("models", "models.openai", "providers", "routes", "inspect", "alpha.admin", "chat.completions", "completions"),
)
"""The client's resources that we answer; those that a version lacks are passed over."""

NOT_OURS = {"chat.completions.list", "chat.completions.retrieve"}
"""Completions that a server has stored: ours stores none."""


class Calls:
    """The client, or one of its resources: each call is noted, and awaited where the client is asynchronous."""

    def __init__(self, target: Any, noted: set[str], run: Callable[[Any], Any], path: str = "") -> None:
        self._target = target
        self._noted = noted
        self._run = run
        self._path = path

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        path = f"{self._path}.{name}".lstrip(".")
        if not callable(value):
            return Calls(value, self._noted, self._run, path)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._noted.add(path)
            return self._run(value(*args, **kwargs))

        return call

    def has(self, path: str) -> bool:
        """Whether this version has a resource or a method."""
        target = self._target
        for name in path.split("."):
            target = getattr(target, name, None)
        return target is not None

    def methods(self) -> set[str]:
        """Every method of `AREAS`."""
        found = set()
        for area in filter(self.has, AREAS):
            target = self._target
            for name in area.split("."):
                target = getattr(target, name)
            found |= {
                f"{area}.{name}"
                for name in vars(type(target))
                if not name.startswith(("_", "with_")) and callable(getattr(target, name))
            }
        return found - NOT_OURS - set(AREAS)


class Driver:
    """One client against one server. Everything it makes bears `prefix` in its id, so that clients can share a server."""

    def __init__(self, url: str, mode: str) -> None:
        self.prefix = f"v{llama_stack_client.__version__}-{mode}"
        self.is_async = mode == "async"
        loop = asyncio.new_event_loop()
        client_type = AsyncLlamaStackClient if self.is_async else LlamaStackClient

        def run(result: Any) -> Any:
            if not self.is_async:
                return list(result) if hasattr(result, "__iter__") and hasattr(result, "response") else result
            return loop.run_until_complete(_finish(result))

        self.noted: set[str] = set()
        # Their own 60 seconds are short for a busy machine that loads its first model.
        options = {"base_url": url, "timeout": 180}
        strict = client_type(**options, max_retries=0, _strict_response_validation=True)
        self.client = Calls(strict, self.noted, run)
        # The types of 0.3.5 have no models that rerank, those of 0.7.5 no datasets to train on, which others made.
        is_narrow = llama_stack_client.__version__ in ("0.3.5", "0.7.5")
        self.lenient = Calls(client_type(**options, max_retries=0), self.noted, run)
        self.wide = self.lenient if is_narrow else self.client
        self.patient = Calls(client_type(**options, max_retries=2), set(), run)
        # 0.3.5 has these two outside of `alpha` and `beta`.
        self.datasets = self.client.datasets if self.client.has("datasets") else self.client.beta.datasets
        self.benchmarks = self.client.benchmarks if self.client.has("benchmarks") else self.client.alpha.benchmarks

    def append(self, dataset_id: str, rows: list[dict[str, Any]], datasets: Any = None, **options: Any) -> None:
        """Append rows; 0.7.0 sends the id in the path and in the body."""
        datasets = datasets or self.datasets
        if llama_stack_client.__version__ == "0.7.0":
            datasets.appendrows(path_dataset_id=dataset_id, body_dataset_id=dataset_id, rows=rows, **options)
        else:
            datasets.appendrows(dataset_id, rows=rows, **options)


async def _finish(result: Any) -> Any:
    """What a call of the asynchronous client gives in the end: its value, or a stream's pieces."""
    value = await result if hasattr(result, "__await__") else result
    return [piece async for piece in value] if hasattr(value, "__aiter__") else value


def refused(error: type[Exception], call: Callable[[], Any]) -> Any:
    """The error that a call must raise."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}")


def until(get: Callable[[], Any], status: str, seconds: float = 120) -> Any:
    """What `get` gives once it has the status."""
    deadline = time.monotonic() + seconds
    while (found := get()).status != status:
        assert found.status in ("scheduled", "in_progress"), found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


# ---------------------------------------------------------------------------------------------------- datasets


def datasets(driver: Driver) -> None:
    client, name = driver.datasets, f"{driver.prefix}/sums"
    source = {"type": "rows", "rows": sums(0, 3)}
    purpose = "eval/question-answer"
    registered = client.register(dataset_id=name, purpose=purpose, source=source, metadata={"team": "a"})
    assert (registered.identifier, registered.purpose, registered.type) == (name, purpose, "dataset")
    assert client.register(dataset_id=name, purpose=purpose, source=source, metadata={"team": "a"}) == registered
    listing = driver.wide.datasets if driver.wide.has("datasets") else driver.wide.beta.datasets
    assert name in [dataset.identifier for dataset in listing.list()]
    driver.append(name, sums(3, 2))
    dataset = client.retrieve(name)
    assert (dataset.metadata["num_rows"], dataset.metadata["team"]) == (5, "a")
    assert dataset.source.rows == sums(0, 5)
    page = client.iterrows(name, start_index=1, limit=3)
    assert (page.data, page.has_more) == (sums(1, 3), True)
    everything = client.iterrows(name)
    assert (everything.data, everything.has_more, everything.url) == (sums(0, 5), False, None)

    table = base64.b64encode(b"question,answer\n1 + 1,2\n").decode()
    uri = {"type": "uri", "uri": f"data:text/csv;base64,{table}"}
    unnamed = client.register(purpose=purpose, source=uri).identifier
    assert client.iterrows(unnamed).data == [{"question": "1 + 1", "answer": "2"}]
    client.unregister(unnamed)

    gone = refused(llama_stack_client.NotFoundError, lambda: client.retrieve(unnamed))
    assert unnamed in gone.body["detail"]
    wrong = refused(llama_stack_client.BadRequestError, lambda: client.iterrows(name, limit=-2))
    assert wrong.body["status"] == 400
    body = {"nonsense": 1}
    raw = client.with_raw_response.register(
        dataset_id=name, purpose=purpose, source=source, metadata={"team": "a"}, extra_body=body
    )
    assert raw.headers["Paddock-Ignored-Fields"] == "/nonsense"
    assert raw.headers["X-Request-Id"].startswith("req-")


# ---------------------------------------------------------------------------------------------------- evaluation

JUDGE = {
    "type": "llm_as_judge",
    "judge_model": "judge-1",
    "prompt_template": "Rate {generated_answer} for {input_query}, expected {expected_answer}.",
    "judge_score_regexes": [r"Total rating: (\d)"],
    "aggregation_functions": ["average"],
}


def scoring(driver: Driver) -> None:
    functions, judge = driver.client.scoring_functions, f"{driver.prefix}-judge"
    functions.register(scoring_fn_id=judge, description="A judge.", return_type={"type": "number"}, params=JUDGE)
    listed = {function.identifier: function for function in functions.list()}
    assert {"basic::equality", judge} <= set(listed)
    assert functions.retrieve("basic::equality").return_type.type == "number"
    found = functions.retrieve(judge)
    assert (found.description, found.params.judge_model) == ("A judge.", "judge-1")

    rows = [{"input_query": "1", "generated_answer": text, "expected_answer": "a"} for text in ("a", "b")]
    choice = {"basic::equality": None, judge: JUDGE}
    results = driver.client.scoring.score(input_rows=rows, scoring_functions=choice).results
    assert [row["score"] for row in results["basic::equality"].score_rows] == [1, 0]
    assert results["basic::equality"].aggregated_results["accuracy"]["num_total"] == 2
    assert results[judge].aggregated_results["average"]["average"] == 4

    name, source = f"{driver.prefix}/answers", {"type": "rows", "rows": rows}
    driver.datasets.register(dataset_id=name, purpose="eval/question-answer", source=source)
    batch = driver.client.scoring.score_batch(dataset_id=name, save_results_dataset=False, scoring_functions=choice)
    assert batch.results["basic::equality"].score_rows == results["basic::equality"].score_rows
    if driver.client.has("scoring_functions.unregister"):
        functions.unregister(judge)
        refused(llama_stack_client.NotFoundError, lambda: functions.retrieve(judge))


def evaluation(driver: Driver) -> None:
    rows = [*sums(0, 9), {"question": "what?", "answer": "42"}]
    exam, name = f"{driver.prefix}-exam", f"{driver.prefix}/bench"
    driver.datasets.register(dataset_id=exam, purpose="eval/question-answer", source={"type": "rows", "rows": rows})
    functions = ["basic::equality", "llm-as-judge::base"]
    driver.benchmarks.register(benchmark_id=name, dataset_id=exam, scoring_functions=functions, metadata={"a": "b"})
    assert name in [benchmark.identifier for benchmark in driver.benchmarks.list()]
    benchmark = driver.benchmarks.retrieve(name)
    assert (benchmark.dataset_id, benchmark.scoring_functions, benchmark.metadata) == (exam, functions, {"a": "b"})

    client, jobs = driver.client.alpha.eval, driver.client.alpha.eval.jobs
    config = candidate("sums-1") | {"scoring_params": {"llm-as-judge::base": JUDGE}}
    job = client.run_eval(name, benchmark_config=config)
    assert job.status == "scheduled"
    until(lambda: jobs.status(job.job_id, benchmark_id=name), "completed")
    result = jobs.retrieve(job.job_id, benchmark_id=name)
    assert [generation["generated_answer"] for generation in result.generations[:2]] == ["1", "3"]
    accuracy = result.scores["basic::equality"].aggregated_results["accuracy"]
    assert (accuracy["accuracy"], accuracy["num_correct"], accuracy["num_total"]) == (0.9, 9, 10)
    assert accuracy["ci95"][0] < 0.9 < accuracy["ci95"][1]
    assert result.scores["llm-as-judge::base"].aggregated_results["average"]["average"] == 4
    done = refused(llama_stack_client.ConflictError, lambda: jobs.cancel(job.job_id, benchmark_id=name))
    assert done.response.headers["x-should-retry"] == "false"

    again = client.run_eval_alpha(name, benchmark_config=config | {"num_examples": 2})
    jobs.cancel(again.job_id, benchmark_id=name)
    assert jobs.status(again.job_id, benchmark_id=name).status == "cancelled"

    for evaluate in (client.evaluate_rows, client.evaluate_rows_alpha):
        answer = evaluate(
            name, input_rows=rows[:2], scoring_functions=["basic::equality"], benchmark_config=candidate("sums-1")
        )
        assert [row["score"] for row in answer.scores["basic::equality"].score_rows] == [1, 1]
    unknown = refused(
        llama_stack_client.BadRequestError, lambda: client.run_eval(name, benchmark_config=candidate("nobody"))
    )
    assert unknown.body["errors"][0]["pointer"].endswith("/eval_candidate/model")
    if driver.client.has("alpha.benchmarks.unregister"):
        driver.benchmarks.unregister(name)
        refused(llama_stack_client.NotFoundError, lambda: driver.benchmarks.retrieve(name))


# ---------------------------------------------------------------------------------------------------- models


def inference(driver: Driver) -> None:
    client = driver.client
    passages = [
        "Bread rises because yeast makes carbon dioxide.",
        "The Moon's gravity pulls the oceans and makes the tides.",
        {"type": "text", "text": "A violin has four strings."},
    ]
    ranked = client.alpha.inference.rerank(model="minilm", query="Why does the sea rise and fall?", items=passages)
    assert ranked[0].index == 1
    assert sorted(item.index for item in ranked) == [0, 1, 2]
    query = {"type": "text", "text": "music"}
    best = client.alpha.inference.rerank(model="minilm", query=query, items=passages, max_num_results=1)
    assert [item.index for item in best] == [2]

    question = [{"role": "user", "content": "3 + 4"}]
    answer = client.chat.completions.create(model="sums-1", messages=question)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("7", "stop")
    # Their types have every piece end the answer, where OpenAI's API says null before the last.
    pieces = driver.lenient.chat.completions.create(model="sums-1", messages=question, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "7"
    knobs = {"model": "tiny", "prompt": "one two", "max_tokens": 4, "temperature": 0}
    text = client.completions.create(**knobs).choices[0].text
    pieces = driver.lenient.completions.create(**knobs, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == text
    refused(llama_stack_client.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=question))


def models(driver: Driver) -> None:
    client = driver.client.models
    listed, opened = driver.wide.models.list(), driver.wide.models.openai.list()
    assert {"sums-1", "tiny", "minilm"} <= {getattr(model, "id", None) or model.identifier for model in listed}
    assert len(opened) == len(listed)
    assert client.retrieve("tiny").provider_id == "local"
    if not driver.client.has("models.register"):
        return
    name = f"{driver.prefix}/alias"
    registered = client.register(model_id=name, provider_id="lab", provider_model_id="sums-1", model_type="llm")
    assert (registered.identifier, registered.provider_resource_id) == (name, "sums-1")
    again = {"model_id": name, "provider_id": "lab", "provider_model_id": "another", "model_type": "llm"}
    refused(llama_stack_client.ConflictError, lambda: client.register(**again))
    client.unregister(name)
    refused(llama_stack_client.NotFoundError, lambda: client.retrieve(name))


def support(driver: Driver) -> None:
    client = driver.client
    assert client.inspect.health().status == "OK"
    version = client.inspect.version().version
    assert {"/v1alpha/inference/rerank", "/v1beta/datasets"} <= {route.route for route in client.routes.list()}
    assert [provider.provider_id for provider in client.providers.list()] == ["local", "lab"]
    assert client.providers.retrieve("lab").provider_type == "remote::openai"
    if client.has("alpha.admin"):
        admin = client.alpha.admin
        assert (admin.health().status, admin.version().version) == ("OK", version)
        assert [provider.provider_id for provider in admin.list_providers()] == ["local", "lab"]
        assert admin.inspect_provider("local").provider_id == "local"
        assert len(admin.list_routes()) == len(client.routes.list())


# ---------------------------------------------------------------------------------------------------- training


def post_training(driver: Driver) -> None:
    if not driver.client.has("alpha.post_training"):
        return
    client, jobs = driver.client.alpha.post_training, driver.client.alpha.post_training.job
    chats, pairs, tune, prefer = (f"{driver.prefix}-{name}" for name in ("chats", "pairs", "tune", "prefer"))
    turns = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i}"}]}
        for i in range(8)
    ]
    choices = [{"prompt": f"say {i}", "chosen": f"{i}", "rejected": "no"} for i in range(8)]
    for name, rows in ((chats, turns), (pairs, choices)):
        driver.datasets.register(
            dataset_id=name, purpose="post-training/messages", source={"type": "rows", "rows": rows}
        )
    request = fine_tune(tune, "tiny", epochs=500 if driver.is_async else 2)
    request["training_config"]["data_config"] |= {"dataset_id": chats, "validation_dataset_id": chats}
    assert client.supervised_fine_tune(**request).job_uuid == tune
    assert client.supervised_fine_tune(**request).job_uuid == tune  # the same again is the same job
    assert tune in [job.job_uuid for job in jobs.list()]
    if not driver.is_async:
        status = until(lambda: jobs.status(job_uuid=tune), "completed")
        assert [checkpoint.epoch for checkpoint in status.checkpoints] == [1, 2]
        checkpoints = jobs.artifacts(job_uuid=tune).checkpoints
        assert [checkpoint.identifier for checkpoint in checkpoints] == [f"{tune}:epoch-1", f"{tune}:epoch-2"]
        assert 0 < checkpoints[-1].training_metrics.validation_loss < 10
        assert checkpoints[-1].post_training_job_id == tune
        done = refused(llama_stack_client.ConflictError, lambda: jobs.cancel(job_uuid=tune))
        assert done.body["status"] == 409
    # That preferences train to their end, too, is seen once.
    whole = (llama_stack_client.__version__, driver.is_async) == ("0.4.7", False)
    preferences = {
        "job_uuid": prefer,
        "finetuned_model": f"{tune}:epoch-2" if whole else "tiny",
        "algorithm_config": {"beta": 0.1, "loss_type": "sigmoid"},
        "training_config": training_config(pairs, epochs=1 if whole else 500),
        "hyperparam_search_config": {},
        "logger_config": {},
    }
    assert client.preference_optimize(**preferences).job_uuid == prefer
    if not whole:
        for job_uuid in (tune, prefer) if driver.is_async else (prefer,):
            jobs.cancel(job_uuid=job_uuid)
            assert jobs.status(job_uuid=job_uuid).status == "cancelled"
            assert jobs.artifacts(job_uuid=job_uuid).job_uuid == job_uuid
        return
    status = until(lambda: jobs.status(job_uuid=prefer), "completed")
    assert [checkpoint.identifier for checkpoint in status.checkpoints] == [f"{prefer}:epoch-1"]

    # A checkpoint's identifier is at once a model for evaluation.
    exam, config = f"{driver.prefix}-tuned", candidate(f"{prefer}:epoch-1")
    config["eval_candidate"]["sampling_params"]["max_tokens"] = 4
    source = {"type": "rows", "rows": sums(0, 4)}
    driver.datasets.register(dataset_id=exam, purpose="eval/question-answer", source=source)
    driver.benchmarks.register(benchmark_id=exam, dataset_id=exam, scoring_functions=["basic::equality"])
    job = driver.client.alpha.eval.run_eval(exam, benchmark_config=config)
    until(lambda: driver.client.alpha.eval.jobs.status(job.job_id, benchmark_id=exam), "completed")


# ---------------------------------------------------------------------------------------------------- retries


def retries(driver: Driver, proxied: Driver) -> None:
    """The client repeats by itself what may be repeated; test_official_clients.py asserts how often each came."""
    name, source = f"{driver.prefix}/retries", {"type": "rows", "rows": sums(0, 3)}
    question = [{"role": "user", "content": "3 + 4"}]

    def count(what: str, header: str = "X-Count", **more: str) -> dict[str, str]:
        return {header: f"{driver.prefix} {what}", **more}

    register = {"dataset_id": name, "purpose": "eval/question-answer"}
    patient = proxied.patient
    client = patient.datasets if patient.has("datasets") else patient.beta.datasets
    client.register(**register, source=source, extra_headers=count("register", "X-Cut"))
    assert driver.datasets.retrieve(name).metadata["num_rows"] == 3
    refused(
        llama_stack_client.ConflictError,
        lambda: client.register(
            **register, source={"type": "rows", "rows": sums(0, 1)}, extra_headers=count("conflict")
        ),
    )
    refused(llama_stack_client.NotFoundError, lambda: client.retrieve("nowhere", extra_headers=count("not found")))
    key = {"Idempotency-Key": f"{driver.prefix}-append"}
    proxied.append(name, sums(3, 2), client, extra_headers=count("append", "X-Cut", **key))
    assert driver.datasets.iterrows(name).data == sums(0, 5)
    refused(
        llama_stack_client.InternalServerError,
        lambda: patient.chat.completions.create(model="down", messages=question, extra_headers=count("down")),
    )
    exam, key = f"{driver.prefix}/retried", {"Idempotency-Key": f"{driver.prefix}-eval"}
    driver.benchmarks.register(benchmark_id=exam, dataset_id=name, scoring_functions=["basic::equality"])
    run = {"benchmark_config": candidate("sums-1")}
    job = patient.alpha.eval.run_eval(exam, **run, extra_headers=count("run_eval", "X-Cut", **key))
    assert patient.alpha.eval.run_eval(exam, **run, extra_headers=key).job_id == job.job_id
    if driver.client.has("alpha.post_training"):
        chats, tune = f"{driver.prefix}-chats", f"{driver.prefix}-retried"
        request = fine_tune(tune, "tiny", epochs=500)
        request["training_config"]["data_config"]["dataset_id"] = chats
        patient.alpha.post_training.supervised_fine_tune(**request, extra_headers=count("tune", "X-Cut"))
        jobs = driver.client.alpha.post_training.job
        assert [job.job_uuid for job in jobs.list()].count(tune) == 1
        jobs.cancel(job_uuid=tune)


def too_many(driver: Driver, proxied: Driver) -> None:
    """What is refused for a moment comes again when the server said, and is done once. The server takes one at a time."""
    name = f"{driver.prefix}/busy"
    source = {"type": "rows", "rows": sums(0, 1)}
    driver.datasets.register(dataset_id=name, purpose="eval/question-answer", source=source)
    driver.benchmarks.register(benchmark_id=name, dataset_id=name, scoring_functions=["basic::equality"])
    evaluate = {"input_rows": sums(0, 1), "scoring_functions": ["basic::equality"]}
    # It may meet an append of ours, and be refused itself.
    evaluation = threading.Thread(
        target=driver.client.with_options(max_retries=10).alpha.eval.evaluate_rows,
        args=(name,),
        kwargs=evaluate | {"benchmark_config": candidate("sums-1")},
    )
    evaluation.start()
    deadline = time.monotonic() + 30
    while not _is_refused(lambda: driver.append(name, [])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    patient = proxied.client.with_options(max_retries=5)
    datasets = patient.datasets if hasattr(patient, "datasets") else patient.beta.datasets
    proxied.append(name, sums(1, 2), datasets, extra_headers={"X-Count": f"{driver.prefix} too many"})
    evaluation.join()
    assert driver.datasets.iterrows(name).data == sums(0, 3)


def _is_refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except llama_stack_client.RateLimitError:
        return True
    return False


def main(url: str, proxy_url: str, mode: str, *only: str) -> None:
    # Each version marks some of its own methods as deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    driver = Driver(url, mode)
    if "too_many" in only:
        too_many(driver, Driver(proxy_url, mode))
        return
    for scenario in (support, models, datasets, scoring, evaluation, inference, post_training):
        scenario(driver)
    retries(driver, Driver(proxy_url, mode))
    methods = driver.client.methods()
    print(
        json.dumps(
            {
                "version": llama_stack_client.__version__,
                "called": sorted(methods & driver.noted),
                "left_out": sorted(methods - driver.noted),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

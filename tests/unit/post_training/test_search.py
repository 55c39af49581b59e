"""Whole searches over trainings of a tiny Llama, in this process: what they keep, and that a kill loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from paddock.jobs import states
from paddock.jobs.states import JobStatus
from paddock.post_training.routes import router
from paddock.server.answers import install
from paddock.wiring import Resources
from training_office import (
    LORA,
    add_dataset,
    chats,
    complete,
    dpo_request,
    pairs,
    run_next,
    run_search,
    sft_request,
    start_search,
    submit,
    training,
)

LR = "/training_config/optimizer_config/lr"
RATES = [1e-5, 1e-2, 3e-4]


def _request(job_uuid: str = "s", *, num_epochs: int = 2, **search: Any) -> dict[str, Any]:
    config = {"space": {LR: {"type": "categorical", "choices": RATES}}, "sampler": {"type": "grid"}} | search
    asked = training("chats", validation_dataset_id="chats", max_validation_steps=-1, n_epochs=num_epochs)
    return sft_request(job_uuid, asked, hyperparam_search_config=config)


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(8))
    add_dataset(resources, "pairs", pairs(8))


@pytest.fixture
def client(resources: Resources) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router)
    install(app)
    for name in ("settings", "jobs", "datasets", "checkpoints", "inference", "trials", "scores"):
        setattr(app.state, name, getattr(resources, name))
    app.state.wake_worker = lambda: None
    with TestClient(app) as client:
        yield client


def test_the_best_trials_checkpoints_are_the_searches(resources: Resources, client: TestClient) -> None:
    job = run_search(resources, _request())
    assert (job.status, job.progress) == (JobStatus.COMPLETED, {"done": 3, "total": 3, "unit": "trials"})

    trained = [resources.jobs.get(f"s:trial-{number}").resources or {} for number in (1, 2, 3)]
    assert job.resources is not None
    assert job.resources["num_trials"] == {"completed": 3, "pruned": 0, "failed": 0}
    assert job.resources["num_tokens"] == sum(used["num_tokens"] for used in trained)
    assert job.resources["remaining_seconds"] == 0

    answer = client.get("/v1alpha/post-training/jobs/s/trials").json()
    assert (answer["objective"], answer["num_trials"]) == ("validation_loss", 3)
    by_rate = {trial["parameters"][LR]: trial for trial in answer["data"]}
    assert sorted(by_rate) == sorted(RATES)
    assert {trial["status"] for trial in answer["data"]} == {"completed"}
    # A tiny random model learns most at the highest rate.
    best = by_rate[1e-2]
    assert answer["best"] == best["number"]
    assert best["value"] == min(trial["value"] for trial in answer["data"])
    assert best["validation_losses"][-1] == best["value"]
    for trial in answer["data"]:
        stored = resources.jobs.get(trial["job_uuid"])
        assert (stored.parent_id, stored.request["training_config"]["optimizer_config"]["lr"]) == (
            "s",
            trial["parameters"][LR],
        )
        assert stored.reads_dataset("chats").num_rows == 8

    status = client.get("/v1alpha/post-training/job/status", params={"job_uuid": "s"}).json()
    assert [c["identifier"] for c in status["checkpoints"]] == ["s:epoch-1", "s:epoch-2"]
    assert {c["post_training_job_id"] for c in status["checkpoints"]} == {"s"}
    assert status["checkpoints"][1]["training_metrics"]["validation_loss"] == best["value"]
    kept, trials_own = (resources.checkpoints.of_job(name) for name in ("s", best["job_uuid"]))
    assert [c.sha256 for c in kept] == [c.sha256 for c in trials_own]
    assert resources.inference.find("s:epoch-2").base_model == resources.inference.find("tiny").provider_model_id
    # The list of jobs shows what clients submitted.
    assert client.get("/v1alpha/post-training/jobs").json() == {"data": [{"job_uuid": "s"}]}
    assert [point["value"] for point in resources.jobs.metrics("s")] == [trial["value"] for trial in answer["data"]]
    assert client.get(f"/v1alpha/post-training/jobs/{best['job_uuid']}/trials").status_code == 404


def test_preferences_are_searched_as_well(resources: Resources) -> None:
    config = {"space": {"algorithm_config.lora.rank": {"type": "int", "low": 2, "high": 4, "step": 2}}, "num_trials": 9}
    asked = training("pairs", validation_dataset_id="pairs", max_validation_steps=-1, n_epochs=1)
    request = dpo_request("s", "tiny", asked, lora=LORA)
    job = run_search(resources, request | {"hyperparam_search_config": config})
    # There are but two points, whatever was asked for.
    assert job.progress == {"done": 2, "total": 2, "unit": "trials"}
    assert sorted(trial.params["/algorithm_config/lora/rank"] for trial in resources.trials.of_search("s")) == [2, 4]
    assert resources.jobs.get("s:trial-1").kind == "dpo"


def test_a_search_that_is_lost_goes_on_with_its_trials(resources: Resources) -> None:
    run_search(resources, _request("undisturbed"))
    submit(resources, _request())
    while True:
        # Lost after each look, and after each training: the next attempt finds everything in the database.
        progress, search = start_search(resources)
        if search.advance():
            break
        waiting = resources.jobs.list(status=JobStatus.SCHEDULED)
        if waiting:
            assert [job.parent_id for job in waiting] == ["s"]
            run_next(resources)
        with resources.database.write() as connection:
            states.hand_back(connection, resources.database.now(), "s", progress.job.attempt)
    search.keep_best()
    search.keep_best()  # lost just before the end
    job = complete(resources, progress)
    assert job.attempt > 3
    lost, undisturbed = resources.trials.of_search("s"), resources.trials.of_search("undisturbed")
    assert [(t.number, t.params, t.value) for t in lost] == [(t.number, t.params, t.value) for t in undisturbed]
    assert {resources.jobs.get(trial.job_id).attempt for trial in lost} == {1}
    assert [c.sha256 for c in resources.checkpoints.of_job("s")] == [
        c.sha256 for c in resources.checkpoints.of_job("undisturbed")
    ]


def test_trials_run_side_by_side_where_asked(resources: Resources) -> None:
    submit(resources, _request(num_parallel_trials=2))
    _, search = start_search(resources)
    assert not search.advance()
    assert [job.job_id for job in resources.jobs.list(status=JobStatus.SCHEDULED)] == ["s:trial-2", "s:trial-1"]
    run_next(resources)
    assert not search.advance()
    assert [trial.status for trial in resources.trials.of_search("s")] == ["completed", "running", "running"]


def test_cancelling_a_search_cancels_its_trials(resources: Resources, client: TestClient) -> None:
    submit(resources, _request(num_parallel_trials=2))
    progress, search = start_search(resources)
    search.advance()
    run_next(resources)
    search.advance()
    resources.jobs.cancel("s")
    statuses = {job.job_id: job.status for job in resources.jobs.list()}
    assert statuses == {
        "s": "cancelled", "s:trial-1": "completed", "s:trial-2": "cancelled", "s:trial-3": "cancelled",
    }  # fmt: skip
    assert resources.jobs.claim(worker_id="test", lease_seconds=1) is None
    assert [event["event"] for event in resources.jobs.events("s:trial-2")] == ["submitted", "cancelled"]
    shown = client.get("/v1alpha/post-training/jobs/s/trials").json()["data"]
    assert [(trial["status"], trial["error"]) for trial in shown] == [
        ("completed", None), ("failed", "The search was cancelled."), ("failed", "The search was cancelled."),
    ]  # fmt: skip


def test_a_trial_that_fails_is_one_trial(resources: Resources) -> None:
    # A rate at which the loss is no number any more.
    choices = [1e30, 1e-3]
    request = _request(space={LR: {"type": "categorical", "choices": choices}}, num_epochs=1)
    request["training_config"] |= {"max_grad_norm": None}
    request["training_config"]["optimizer_config"] |= {"optimizer_type": "sgd", "num_warmup_steps": 0}
    submit(resources, request | {"algorithm_config": None})
    progress, search = start_search(resources)
    while not search.advance():
        job = resources.jobs.list(status=JobStatus.SCHEDULED)[0]
        try:
            run_next(resources)
        except Exception as error:
            with resources.database.write() as connection:
                states.fail(connection, resources.database.now(), job.job_id, 1, str(error))
    search.keep_best()
    statuses = {trial.params[LR]: trial.status for trial in resources.trials.of_search("s")}
    assert statuses == {1e30: "failed", 1e-3: "completed"}
    failed = next(trial for trial in resources.trials.of_search("s") if trial.status == "failed")
    assert "is not finite" in (failed.error or "")
    assert [c.identifier for c in resources.checkpoints.of_job("s")] == ["s:epoch-1"]
    assert complete(resources, progress).status is JobStatus.COMPLETED


def test_a_search_without_a_completed_trial_fails_with_the_reason(resources: Resources) -> None:
    submit(resources, _request())
    _, search = start_search(resources)
    while not search.advance():
        resources.jobs.cancel(resources.jobs.list(status=JobStatus.SCHEDULED)[0].job_id)
    with pytest.raises(Exception, match=r"None of the 3 trials completed\. .* was cancelled"):
        search.keep_best()


def test_a_hopeless_trial_is_ended_early(resources: Resources) -> None:
    """The rates from best to worst, so that the later ones have no hope after their first epoch."""
    space = {LR: {"type": "categorical", "choices": [1e-2, 1e-6]}}
    seed = next(s for s in range(9) if _first_rate(resources, space, s) == 1e-2)
    pruning = {"type": "successive_halving", "min_epochs": 1, "reduction_factor": 2}
    request = _request(num_epochs=3, space=space, sampler={"type": "grid", "seed": seed}, pruning=pruning)
    submit(resources, request)
    progress, search = start_search(resources)
    search.advance()
    run_next(resources)
    search.advance()

    def look_after_the_first_epoch(trial: Any) -> None:
        report = trial.report

        def report_and_look(done: int, total: int | None, unit: str, *, now: bool = False) -> None:
            report(done, total, unit, now=True)
            search.advance()

        trial.report = report_and_look

    with pytest.raises(Exception, match="Attempt 1 of job s:trial-2 is over"):
        run_next(resources, on_start=look_after_the_first_epoch)
    assert search.advance()
    first, second = resources.trials.of_search("s")
    assert (first.status, len(first.losses)) == ("completed", 3)
    assert (second.status, second.value, len(second.losses)) == ("pruned", None, 1)
    assert resources.jobs.get("s:trial-2").status is JobStatus.CANCELLED
    search.keep_best()
    assert complete(resources, progress).progress == {"done": 2, "total": 2, "unit": "trials"}
    assert len(resources.checkpoints.of_job("s")) == 3


def _first_rate(resources: Resources, space: dict[str, Any], seed: int) -> float:
    from paddock.post_training import study
    from paddock.post_training.search_config import SearchConfig

    search = SearchConfig.model_validate({"space": space, "sampler": {"type": "grid", "seed": seed}})
    params = study.suggest(search, [])
    assert params is not None
    return float(params[LR])

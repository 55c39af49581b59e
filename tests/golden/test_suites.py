"""Imported tasks, run from the file to the score, held against what lm-evaluation-harness made of them with the same model
(`suites/record.py` recorded it)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app_server import AppServer
from paddock import quickstart, wiring
from paddock.client import Client
from paddock.evaluation import job as eval_job
from paddock.inference.engine_host import EngineHost
from paddock.inference.local import LocalEngine
from paddock.jobs.progress import Progress, StopRequestedError
from paddock.jobs.states import JobStatus, hand_back
from paddock.runners import end_well
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.suites import lm_eval, suite
from paddock.wiring import Resources

FOLDER = Path(__file__).parent / "suites"
RECORDED: dict[str, Any] = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
SMALL = Path(quickstart.__file__).parent / "base_model"


@dataclass
class Office:
    """A server with the small model, and what runs its jobs."""

    resources: Resources
    client: Client

    def start(self, task: str) -> str:
        """Import a task and have it evaluated; returns the job's id."""
        suite.register(self.client, lm_eval.load(FOLDER / f"{task}.yaml", self.client))
        candidate = {"type": "model", "model": "small", "sampling_params": {}}
        return self.client.run_eval(task, {"eval_candidate": candidate})

    def run(self, job_id: str, *, stop_after: int | None = None) -> JobStatus:
        """One attempt at the job, in this process, which is asked to stop after so many rows."""
        held = self.resources
        job = held.jobs.claim(worker_id="worker", lease_seconds=600)
        assert job is not None
        assert job.job_id == job_id
        progress = Progress(job, held.jobs)
        if stop_after is not None:
            _stop_after(progress, stop_after)
        try:
            eval_job.run(progress, held.datasets, held.evaluation, held.inference, is_last_attempt=True)
        except StopRequestedError:
            with held.database.write() as connection:
                hand_back(connection, held.database.now(), job_id, job.attempt)
        else:
            end_well(progress)
        return held.jobs.get(job_id).status

    def result(self, task: str, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1alpha/eval/benchmarks/{task}/jobs/{job_id}/result")
        return found


def _stop_after(progress: Progress, num_rows: int) -> None:
    """Ask the job to stop once it has told of so many rows."""
    report = progress.report

    def watched(done: int, *args: Any, **options: Any) -> None:
        report(done, *args, **options)
        if done >= num_rows:
            progress.ask_to_stop()

    progress.report = watched  # type: ignore[method-assign]  # to look on


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), model_roots=[SMALL])
    resources = wiring.build(settings)
    host = EngineHost(settings, resources.data_dir)
    host.start()
    with AppServer(create_app(resources, wake_worker=lambda: None)) as server:
        client = Client(server.url)
        client.post("/v1/models", {"model_id": "small", "provider_id": "local", "provider_model_id": str(SMALL)})
        yield Office(resources, client)
    host.stop()
    resources.database.close()


@pytest.mark.parametrize("task", ["dates_choice", "words_choice"])
def test_multiple_choice(office: Office, task: str) -> None:
    job_id = office.start(task)
    assert office.run(job_id) is JobStatus.COMPLETED
    found, recorded = office.result(task, job_id), RECORDED[task]
    told = [[choice["log_likelihood"] for choice in row["choices"]] for row in found["generations"]]
    assert told == [pytest.approx(row["log_likelihoods"], abs=1e-4) for row in recorded["rows"]]
    for metric in ("acc", "acc_norm", "acc_bytes"):
        scores = found["scores"][f"loglikelihood::{metric}"]
        assert [row["score"] for row in scores["score_rows"]] == [
            row["scores"][f"{metric},none"] for row in recorded["rows"]
        ]
        assert scores["aggregated_results"]["accuracy"]["accuracy"] == recorded["metrics"][f"{metric},none"]


def test_generation_after_examples(office: Office) -> None:
    job_id = office.start("dates_written")
    assert office.run(job_id) is JobStatus.COMPLETED
    found, recorded = office.result("dates_written", job_id), RECORDED["dates_written"]
    assert [row["generated_answer"] for row in found["generations"]] == [row["answer"] for row in recorded["rows"]]
    for name in ("whole", "last-number"):
        scores = found["scores"][f"dates_written/{name}/exact_match"]
        assert [row["score"] for row in scores["score_rows"]] == [
            row["scores"][f"exact_match,{name}"] for row in recorded["rows"]
        ]
        accuracy = scores["aggregated_results"]["accuracy"]
        assert accuracy["accuracy"] == recorded["metrics"][f"exact_match,{name}"]
        assert 0 < accuracy["accuracy"] < 1


def test_a_job_that_was_stopped_ends_with_the_same_likelihoods(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "max_concurrency", 2)  # some rows are left when it stops
    whole, resumed = office.start("dates_choice"), office.start("dates_choice")
    assert office.run(whole) is JobStatus.COMPLETED
    assert office.run(resumed, stop_after=1) is JobStatus.SCHEDULED
    assert 0 < office.resources.jobs.get(resumed).progress_done < len(RECORDED["dates_choice"]["rows"])
    assert office.run(resumed) is JobStatus.COMPLETED
    first, second = office.result("dates_choice", whole), office.result("dates_choice", resumed)
    assert [row["choices"] for row in first["generations"]] == [row["choices"] for row in second["generations"]]
    assert first["scores"] == second["scores"]

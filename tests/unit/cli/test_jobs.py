"""`paddock jobs` against the real app, and following: until the end, until Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from app_server import AppServer
from paddock.jobs import states
from paddock.jobs.job import NewJob
from paddock.jobs.progress import Progress
from paddock.server.app import create_app
from paddock.storage.data_dir import DataDir
from paddock.wiring import Resources

Invoke = Callable[..., Result]


@pytest.fixture
def job(resources: Resources) -> str:
    return resources.jobs.submit(NewJob("my job", "sft", {})).job_id


def start(resources: Resources) -> Progress:
    claimed = resources.jobs.claim(worker_id="w", lease_seconds=60)
    assert claimed is not None
    return Progress(claimed, resources.jobs)


def test_list_and_show(invoke: Invoke, resources: Resources, job: str) -> None:
    resources.jobs.submit(NewJob("other", "dpo", {}))
    assert re.search(r"my job +sft +scheduled", invoke("jobs", "list").output)
    assert "other" not in invoke("jobs", "list", "--kind", "sft").output
    assert [found["job_id"] for found in json.loads(invoke("jobs", "list", "--json", "--limit", "1").output)] == [
        "other"
    ]
    start(resources).report(3, 9, "steps", now=True)
    shown = invoke("jobs", "show", job).output
    assert "3/9 steps" in shown
    assert re.search(r"0 +submitted", shown)
    assert re.search(r"1 +started", shown)
    events = json.loads(invoke("jobs", "show", job, "--json").output)["events"]
    assert [event["event"] for event in events] == ["submitted", "started"]


def test_logs(invoke: Invoke, resources: Resources, job: str, data_dir: DataDir) -> None:
    assert invoke("jobs", "logs", job).output == ""
    start(resources)
    log_file = data_dir.log_file(job, 1)
    log_file.parent.mkdir(parents=True)
    log_file.write_text("eins\nzwölf\n")
    assert invoke("jobs", "logs", job).output == "eins\nzwölf\n"
    resources.jobs.cancel(job)
    assert invoke("jobs", "logs", "-f", job).output == "eins\nzwölf\n"


def test_events(invoke: Invoke, resources: Resources, job: str) -> None:
    start(resources)
    lines = invoke("jobs", "events", job).output.splitlines()
    assert [line.split("attempt ")[1] for line in lines] == ["0  submitted", "1  started"]
    number = lines[0].split()[0]
    resources.jobs.cancel(job)
    followed = invoke("jobs", "events", "-f", job, "--after", number, "--json").output.splitlines()
    assert [json.loads(line)["event"] for line in followed] == ["started", "cancelled"]
    assert "nope" in invoke("jobs", "events", "-f", "nope", code=1).output


def test_prioritize(invoke: Invoke, resources: Resources, job: str) -> None:
    assert invoke("jobs", "prioritize", job, "7").output == "The job my job waits with priority 7.\n"
    assert resources.jobs.get(job).priority == 7
    assert re.search("priority +7", invoke("jobs", "show", job).output)
    start(resources)
    assert "does not wait" in invoke("jobs", "prioritize", job, "1", code=1).output


def test_prune(invoke: Invoke, resources: Resources, job: str) -> None:
    assert "--logs DAYS" in invoke("jobs", "prune", code=2).output
    resources.jobs.cancel(job)
    assert invoke("jobs", "prune", "--jobs", "1").output == "Deleted 0 jobs, and the logs of 0.\n"
    assert invoke("jobs", "prune", "--logs", "0", "--jobs", "0").output == "Deleted 1 jobs, and the logs of 0.\n"
    assert resources.jobs.find(job) is None


def test_a_failure_is_shown_with_what_may_help(invoke: Invoke, resources: Resources, job: str) -> None:
    progress = start(resources)
    with progress.write() as connection:
        now = resources.database.now()
        states.fail(connection, now, job, 1, "The model is away.", retryable=True, log_tail="first line\nlast line")
    shown = invoke("jobs", "show", job).output
    assert re.search("again +may go better", shown)
    assert "first line\nlast line" in shown
    watched = invoke("jobs", "watch", job, code=1).output
    assert "The model is away.\nThe same request may go better another time.\n" in watched
    assert "last line" in watched


def test_metrics_are_drawn(invoke: Invoke, resources: Resources, job: str) -> None:
    assert "measured nothing yet" in invoke("jobs", "metrics", job, code=1).output
    progress = start(resources)
    for step in range(1, 101):
        progress.note_metrics(step, loss=100.0 / step, lr=1e-3)
    progress.note_metrics(100, validation_loss=2.5)
    progress.report(100, 100, "steps", now=True)
    lines = invoke("jobs", "metrics", job).output.splitlines()
    assert lines[0] == "loss"
    assert lines[1] == "100 ┤⢱"
    assert lines[12].split() == ["1", "100"]
    assert lines[14] == "validation_loss"
    assert re.search(r"lr +0\.001 +▁+ +0\.001 +100", "\n".join(lines))
    assert invoke("jobs", "metrics", job, "--series", "lr").output.startswith("lr\n")
    assert "It has loss, lr, validation_loss." in invoke("jobs", "metrics", job, "--series", "x", code=1).output
    assert len(json.loads(invoke("jobs", "metrics", job, "--json").output)) == 100


def test_cancel(invoke: Invoke, resources: Resources, job: str) -> None:
    assert invoke("jobs", "cancel", job).output == "The job my job is cancelled.\n"
    assert resources.jobs.get(job).status is states.JobStatus.CANCELLED
    assert "nope" in invoke("jobs", "cancel", "nope", code=1).output


def test_watching_a_job_that_completes(invoke: Invoke, resources: Resources, job: str) -> None:
    progress = start(resources)
    with progress.write() as connection:
        states.complete(connection, resources.database.now(), job, 1)
    assert "The job my job is completed; it took" in invoke("jobs", "watch", job).output
    assert json.loads(invoke("jobs", "watch", job, "--json").output)["status"] == "completed"


def test_watching_a_job_that_fails_says_why_with_code_1(invoke: Invoke, resources: Resources, job: str) -> None:
    progress = start(resources)
    with progress.write() as connection:
        states.fail(connection, resources.database.now(), job, 1, "the rows have no answers")
    output = invoke("jobs", "watch", job, code=1).output
    assert output == "Error: The job my job is failed: the rows have no answers\n"


def test_watching_a_job_that_is_cancelled_ends_with_code_1(invoke: Invoke, resources: Resources, job: str) -> None:
    resources.jobs.cancel(job)
    assert invoke("jobs", "watch", job, code=1).output == "Error: The job my job is cancelled.\n"


def test_ctrl_c_leaves_the_job_alone_and_says_so(resources: Resources, job: str) -> None:
    app = create_app(resources, wake_worker=lambda: None)
    polled = threading.Event()

    async def watched_app(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if scope.get("path", "").endswith("/metrics"):
            polled.set()

    with AppServer(watched_app) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "paddock", "jobs", "watch", job],
            env=os.environ | {"PADDOCK_URL": server.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert polled.wait(30)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "The job my job goes on." in output
    assert "paddock jobs watch 'my job'" in output
    assert resources.jobs.get(job).status is states.JobStatus.SCHEDULED

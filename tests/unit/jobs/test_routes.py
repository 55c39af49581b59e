"""The routes of all jobs over a real server; no worker runs: tests move the jobs themselves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app_server import AppServer
from paddock.client import Client
from paddock.jobs import states
from paddock.jobs.job import NewJob
from paddock.server.app import create_app
from paddock.wiring import Resources

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def server(resources: Resources) -> Iterator[AppServer]:
    with AppServer(create_app(resources, wake_worker=lambda: None)) as server:
        yield server


@pytest.fixture
def http(server: AppServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def _start(resources: Resources, job_id: str = "my/job") -> None:
    resources.jobs.submit(NewJob(job_id, "eval", {}))
    assert resources.jobs.claim(worker_id="w", lease_seconds=60)


def _complete(resources: Resources, job_id: str = "my/job") -> None:
    with resources.database.write() as connection:
        states.complete(connection, resources.database.now(), job_id, 1)


def _events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, each checked to be framed as browsers read it."""
    events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        event = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (str(event["event_id"]), event["event"])
        events.append(event)
    return events


def test_events_as_they_happen(resources: Resources, http: httpx.Client) -> None:
    _start(resources)
    arrived: list[tuple[float, str]] = []

    def read() -> None:
        with http.stream("GET", "/v1alpha/jobs/my/job/events", headers=STREAM) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for line in response.iter_lines():
                if line.startswith("event: "):
                    arrived.append((time.monotonic(), line.removeprefix("event: ")))

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 10
    while len(arrived) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [name for _, name in arrived] == ["submitted", "started"]
    completed_at = time.monotonic()
    _complete(resources)
    reader.join(10)
    assert arrived[2][1] == "completed"
    assert arrived[2][0] >= completed_at
    assert len(arrived) == 3


def test_a_stream_goes_on_from_the_last_event_that_was_seen(resources: Resources, http: httpx.Client) -> None:
    _start(resources)
    _complete(resources)
    path = "/v1alpha/jobs/my/job/events"
    whole = _events(http.get(path, headers=STREAM).text)
    assert [event["event"] for event in whole] == ["submitted", "started", "completed"]
    assert whole == http.get(path).json()["data"]
    seen = str(whole[0]["event_id"])
    assert _events(http.get(path, headers={**STREAM, "Last-Event-ID": seen}).text) == whole[1:]
    assert http.get(path, params={"after": seen}).json()["data"] == whole[1:]
    assert http.get("/v1alpha/jobs/unknown/events", headers=STREAM).status_code == 404


def test_streams_end_with_the_server(resources: Resources) -> None:
    _start(resources)
    ending = threading.Event()
    with AppServer(create_app(resources, wake_worker=lambda: None, is_ending=ending.is_set)) as server:
        url = f"{server.url}/v1alpha/jobs/my/job/events"
        names = []
        with httpx.stream("GET", url, headers=STREAM, timeout=20) as response:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                    ending.set()
    assert names == ["submitted", "started"]


def test_the_client_follows_events(resources: Resources, server: AppServer) -> None:
    _start(resources)
    threading.Timer(0.5, _complete, [resources]).start()
    with Client(server.url) as client:
        followed = list(client.events("my/job", follow=True))
        assert [event["event"] for event in followed] == ["submitted", "started", "completed"]
        assert list(client.events("my/job", after=followed[1]["event_id"])) == followed[2:]


def test_a_failure_in_words(resources: Resources, http: httpx.Client) -> None:
    _start(resources)
    with resources.database.write() as connection:
        now = resources.database.now()
        states.fail(connection, now, "my/job", 1, "The model is away.", retryable=True, log_tail="line 1\nline 2")
    record = http.get("/v1alpha/jobs/my/job").json()
    assert (record["error"], record["retryable"], record["log_tail"]) == ("The model is away.", True, "line 1\nline 2")
    assert record["not_before"] is None


def test_priority(resources: Resources, http: httpx.Client) -> None:
    for job_id in ("a", "b"):
        resources.jobs.submit(NewJob(job_id, "eval", {}))
    assert http.post("/v1alpha/jobs/b/priority", json={"priority": 3}).json()["priority"] == 3
    claimed = resources.jobs.claim(worker_id="w", lease_seconds=60)
    assert claimed is not None
    assert claimed.job_id == "b"
    assert http.post("/v1alpha/jobs/b/priority", json={"priority": 1}).status_code == 409
    refused = http.post("/v1alpha/jobs/a/priority", json={"priority": 10**6})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/priority")


def test_prune(resources: Resources, http: httpx.Client) -> None:
    for job_id in ("old", "running"):
        _start(resources, job_id)
        log_file = resources.data_dir.log_file(job_id, 1)
        log_file.parent.mkdir(parents=True)
        log_file.write_text("said")
    _complete(resources, "old")
    answer = http.post("/v1alpha/jobs/prune", json={"logs_older_than_days": 0})
    assert answer.json() == {"num_logs": 1, "num_jobs": 0}
    assert http.get("/v1alpha/jobs/old/logs").text == ""
    assert http.post("/v1alpha/jobs/prune", json={"jobs_older_than_days": 0}).json()["num_jobs"] == 1
    assert http.get("/v1alpha/jobs/old").status_code == 404
    assert http.get("/v1alpha/jobs/running/logs").text == "said"

"""The frame around the real app: who gets in, what every answer carries, what is counted and logged."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from paddock import settings as settings_module
from paddock import wiring
from paddock.jobs.job import NewJob
from paddock.server import logs
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources

WRITE, READ = "key-that-may-do-everything", "key-that-may-look-and-no-more"

Serve = Callable[..., TestClient]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A client of an app with these settings; `client.app.state` has its resources."""
    with ExitStack() as stack:

        def start(**changes: Any) -> TestClient:
            settings = Settings.model_validate({"data_dir": tmp_path / "data", **changes})
            resources = wiring.build(settings)
            stack.callback(resources.database.close)
            app = create_app(resources, wake_worker=lambda: None)
            client = TestClient(app, base_url="http://127.0.0.1:1", raise_server_exceptions=False)
            client.resources = resources  # type: ignore[attr-defined]
            return stack.enter_context(client)

        yield start


@pytest.fixture
def with_keys(serve: Serve) -> TestClient:
    read = {"key_sha256": settings_module.sha256_of_key(READ), "name": "looker", "role": "read"}
    return serve(api_keys=[WRITE, read])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def register(client: TestClient, num_rows: int = 2, **headers: str) -> None:
    rows = [{"question": str(n), "answer": "a"} for n in range(num_rows)]
    body = {"dataset_id": "d", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": rows}}
    assert client.post("/v1beta/datasets", json=body, headers=headers).status_code == 200


def metrics(client: TestClient, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = client.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    ["/v1beta/datasets", "/nowhere", "/metrics", "/openapi.json", "/docs", "/v1/health/", "/v1/healthy", "//v1/health"],
)
def test_without_a_key_every_path_but_health_is_401(with_keys: TestClient, method: str, path: str) -> None:
    for headers in ({}, bearer("not-the-key-of-this-server")):
        response = with_keys.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"].startswith("req-")
        if method != "HEAD":
            assert response.json() == {
                "status": 401,
                "title": "Unauthorized",
                "detail": response.json()["detail"],
                "instance": response.headers["x-request-id"],
            }


def test_health_is_open(with_keys: TestClient) -> None:
    for headers in ({}, bearer("not-the-key-of-this-server"), bearer(READ)):
        assert with_keys.get("/v1/health", headers=headers).json() == {"status": "OK"}


def test_a_reader_looks_and_a_writer_writes(with_keys: TestClient) -> None:
    register(with_keys, **bearer(WRITE))
    assert with_keys.get("/v1beta/datasets", headers=bearer(READ)).json()["data"][0]["identifier"] == "d"
    for method, path in (
        ("POST", "/v1beta/datasetio/append-rows/d"),
        ("POST", "/v1alpha/inference/rerank"),
        ("DELETE", "/v1beta/datasets/d"),
        ("POST", "/nowhere"),
    ):
        body = {"rows": []} if method == "POST" else None
        response = with_keys.request(method, path, json=body, headers=bearer(READ))
        assert (response.status_code, response.json()["title"]) == (403, "Forbidden")
        assert "key:looker" in response.json()["detail"]
    assert with_keys.delete("/v1beta/datasets/d", headers=bearer(WRITE)).json() is None
    assert with_keys.get("/v1beta/datasets", headers=bearer(READ)).json() == {"data": []}


def test_an_idempotency_key_counts_for_its_caller(serve: Serve) -> None:
    other = "key-of-another-writer"
    client = serve(api_keys=[WRITE, other])
    register(client, 0, **bearer(WRITE))

    def append(key: str) -> int:
        headers = {**bearer(key), "idempotency-key": "one"}
        body = {"rows": [{"question": "q", "answer": "a"}]}
        assert client.post("/v1beta/datasetio/append-rows/d", json=body, headers=headers).json() is None
        num_rows: int = client.get("/v1beta/datasets/d", headers=bearer(key)).json()["metadata"]["num_rows"]
        return num_rows

    assert [append(WRITE), append(WRITE), append(other), append(other)] == [1, 1, 2, 2]


# ------------------------------------------------------------------------------------------------ headers


@pytest.mark.parametrize("path", ["/v1/health", "/v1beta/datasets", "/nowhere", "/v1beta/datasets/none", "/metrics"])
def test_every_answer_has_its_id_and_is_not_kept_or_guessed_at(serve: Serve, path: str) -> None:
    client = serve()
    first = client.get(path, headers={"x-request-id": "mine"})
    assert re.fullmatch(r"req-[0-9a-f]{32}", first.headers["x-request-id"])
    assert client.get(path).headers["x-request-id"] != first.headers["x-request-id"]
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["content-type"]
    assert "access-control-allow-origin" not in first.headers
    assert "server" not in first.headers


# ------------------------------------------------------------------------------------------------ limits


def test_rate_limits_stand_in_every_answer_and_end_in_429(serve: Serve) -> None:
    client = serve(rate_limit={"requests_per_minute": 3})
    answers = [client.get(path) for path in ("/v1beta/datasets", "/nowhere", "/v1/version", "/v1/version")]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=3;w=60'
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert answers[3].json()["title"] == "Too Many Requests"
    # A forwarded address is anyone's to write, and makes no other client.
    assert client.get("/v1/version", headers={"x-forwarded-for": "10.1.1.1"}).status_code == 429
    for _ in range(5):
        health = client.get("/v1/health")
        assert health.status_code == 200
        assert "ratelimit" not in health.headers


def test_keys_have_limits_of_their_own_and_guesses_are_limited_too(serve: Serve) -> None:
    client = serve(rate_limit={"requests_per_minute": 2}, api_keys=[WRITE, "another-key-of-this-server"])
    statuses = [client.get("/v1/version", headers=bearer(WRITE)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert client.get("/v1/version", headers=bearer("another-key-of-this-server")).status_code == 200
    guesses = [client.get("/v1/version", headers=bearer(f"guess-{n}-of-a-key")).status_code for n in range(4)]
    assert guesses == [401, 401, 429, 429]


def test_what_costs_something_is_refused_beyond_the_bound_and_looking_is_not(serve: Serve) -> None:
    """Two requests stand still in the middle of their work; the third that costs something is told to come again."""
    client = serve(max_requests_in_flight=2)
    register(client)
    resources: Resources = client.resources  # type: ignore[attr-defined]
    rows = b'{"rows":[{"question":"q","answer":"a"}]}'
    headers = {"content-type": "application/json"}

    def append() -> int:
        return client.post("/v1beta/datasetio/append-rows/d", content=rows, headers=headers).status_code

    statuses: list[int] = []
    with resources.database.write():  # whoever writes waits here
        threads = [threading.Thread(target=lambda: statuses.append(append())) for _ in range(2)]
        for thread in threads:
            thread.start()
        while value(metrics(client), "paddock_requests_in_flight") < 2:
            pass
        refused = client.post("/v1beta/datasetio/append-rows/d", content=rows, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "max_requests_in_flight" in refused.json()["detail"]
        assert client.get("/v1beta/datasetio/iterrows/d").status_code == 429
        for path in ("/v1/health", "/v1beta/datasets/d", "/v1alpha/jobs"):
            assert client.get(path).status_code == 200
    for thread in threads:
        thread.join(30)
    assert statuses == [200, 200]
    assert client.get("/v1beta/datasetio/iterrows/d").status_code == 200
    found = metrics(client)
    assert value(found, "paddock_requests_in_flight") == 0
    assert value(found, "paddock_requests_refused_total", limit="max_requests_in_flight") == 2
    assert client.get("/v1beta/datasets/d").json()["metadata"]["num_rows"] == 4


def test_a_place_is_given_back_however_a_request_ends(serve: Serve) -> None:
    client = serve(max_requests_in_flight=1)
    for path, body in (
        ("/v1beta/datasetio/append-rows/none", {"rows": []}),
        ("/v1alpha/inference/rerank", {}),
        ("/nowhere", {}),
        ("/v1beta/datasets", {"purpose": 1}),
    ):
        for _ in range(3):
            assert client.post(path, json=body).status_code in (400, 404)
    assert value(metrics(client), "paddock_requests_in_flight") == 0


# ------------------------------------------------------------------------------------------------ metrics and log


def test_metrics_count_requests_rows_and_jobs(serve: Serve) -> None:
    client = serve()
    register(client, 3)
    client.post("/v1beta/datasetio/append-rows/d", json={"rows": [{"question": "q", "answer": "a"}] * 2})
    client.get("/v1beta/datasetio/iterrows/d?start_index=1&limit=3")
    for path in ("/nowhere", "/etc/passwd", "/v1beta/datasets/x/y/z"):
        client.get(path)
    client.request("BREW", "/v1/health")
    resources: Resources = client.resources  # type: ignore[attr-defined]
    for number in range(2):
        resources.jobs.submit(NewJob(f"j{number}", "eval", {}))
    resources.jobs.cancel("j1")
    found = metrics(client)
    template = "/v1beta/datasets/{dataset_id:path}"
    assert value(found, "paddock_requests_total", route="/v1beta/datasets", method="POST", status="2xx") == 1
    assert value(found, "paddock_requests_total", route=template, method="GET", status="4xx") == 1
    assert value(found, "paddock_requests_total", route="unrouted", method="GET", status="4xx") == 2
    assert value(found, "paddock_requests_total", route="/v1/health", method="other", status="4xx") == 1
    assert value(found, "paddock_request_seconds_count", route=template, method="GET") == 1
    assert value(found, "paddock_rows_total", operation="append") == 2
    assert value(found, "paddock_rows_total", operation="read") == 3
    assert value(found, "paddock_received_bytes_total") > 100
    assert value(found, "paddock_sent_bytes_total") > 100
    assert value(found, "paddock_jobs", kind="eval", status="scheduled") == 1
    assert value(found, "paddock_jobs", kind="eval", status="cancelled") == 1
    assert value(found, "paddock_jobs", kind="eval", status="failed") == 0
    assert 0 <= value(found, "paddock_oldest_scheduled_job_seconds") < 60
    assert value(found, "paddock_engine_up") == 0
    assert value(found, "process_open_fds") > 3
    assert not [name for name, labels in found if any("/etc" in text or "x/y" in text for _, text in labels)]


def test_two_apps_do_not_share_their_counters(serve: Serve, tmp_path: Path) -> None:
    one, two = serve(), serve(data_dir=tmp_path / "other")
    one.get("/v1/version")
    labels = {"route": "/v1/version", "method": "GET", "status": "2xx"}
    assert value(metrics(one), "paddock_requests_total", **labels) == 1
    assert ("paddock_requests_total", frozenset(labels.items())) not in metrics(two)


def test_one_line_for_each_request(with_keys: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "paddock.requests"):
        response = with_keys.get("/v1beta/datasets/a%0Ab%20c?token=hidden", headers=bearer(READ))
    (record,) = caplog.records
    line = record.getMessage()
    assert "\n" not in line
    assert line.startswith("GET /v1beta/datasets/a%0Ab%20c 404 ")
    assert response.json()["instance"] == response.headers["x-request-id"]
    assert response.headers["x-request-id"] in line
    assert "key:looker" in line
    assert "hidden" not in line
    assert READ not in line

    fields = json.loads(logs.JsonFormatter().format(record))
    assert fields["request_id"] == response.headers["x-request-id"]
    assert (fields["method"], fields["status"], fields["route"]) == ("GET", 404, "unrouted")
    assert (fields["level"], fields["caller"]) == ("info", "key:looker")
    assert fields["bytes_sent"] == len(response.content)


def test_a_traceback_is_one_line_of_json_too() -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "It met %s.", ("a bug",), sys.exc_info())
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "It met a bug."
    assert "RuntimeError: first" in json.loads(text)["traceback"]

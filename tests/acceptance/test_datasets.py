"""Datasets on a real server: a million rows come in and go out in bounded memory, and a kill costs none of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bodies import candidate, lab
from live_server import LiveServer
from model_server import ModelServer

NUM_ROWS = 1_000_000


def _write(path: Path, num_rows: int) -> None:
    with path.open("w") as file:
        file.writelines(f'{{"question":"{n}+1","answer":"{n + 1}","weight":{n}.10}}\n' for n in range(num_rows))


def _register(server: LiveServer, path: Path, dataset_id: str = "long") -> dict[str, Any]:
    source = {"type": "uri", "uri": path.as_uri()}
    body = {"dataset_id": dataset_id, "purpose": "eval/question-answer", "source": source}
    metadata: dict[str, Any] = server.call("POST", "/v1beta/datasets", body)["metadata"]
    return metadata


def _wait(server: LiveServer, condition: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        metadata: dict[str, Any] = server.call("GET", "/v1beta/datasets/long")["metadata"]
        if condition(metadata):
            return metadata
        assert time.monotonic() < deadline, (metadata, server.log)
        time.sleep(0.02)


@contextmanager
def _growth(pid: int, *, with_children: bool = False) -> Iterator[list[float]]:
    """The highest resident megabytes of a server in the block, above those before it; with its children where a job works
    for it. Without one, a child that gets ready for the next job would count as the server's growth."""

    def resident() -> float:
        total = 0
        server = psutil.Process(pid)
        for process in (server, *(server.children(recursive=True) if with_children else ())):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6

    before, highest, done = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            highest[0] = max(highest[0], resident() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()


def test_a_million_rows_in_and_out_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    _write(path, NUM_ROWS)
    with LiveServer(tmp_path, dataset_roots=[str(tmp_path)]) as server:
        with _growth(server.pid, with_children=True) as growth:
            assert _register(server, path)["state"] == "reading"
            metadata = _wait(server, lambda metadata: metadata["state"] != "reading")
        assert (metadata["state"], metadata["num_rows"], metadata["num_bytes"]) == (
            "ready",
            NUM_ROWS,
            path.stat().st_size - NUM_ROWS,
        )
        assert growth[0] < 150

        with _growth(server.pid) as growth:
            num_bytes = 0
            with server.http.stream("GET", "/v1beta/datasetio/iterrows/long", params={"limit": -1}) as answer:
                for chunk in answer.iter_raw():
                    num_bytes += len(chunk)
        assert num_bytes == metadata["num_bytes"] + (NUM_ROWS - 1) + len('{"data":[],"has_more":false,"url":null}')
        assert growth[0] < 50

        _who_reads_nothing_holds_nothing_up(server)


def _who_reads_nothing_holds_nothing_up(server: LiveServer) -> None:
    """A client that asks for everything and reads nothing: the server waits for it, and forgets it when it leaves."""
    process = psutil.Process(server.pid)
    host, port = server.url.removeprefix("http://").split(":")
    with _growth(server.pid) as growth:
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /v1beta/datasetio/iterrows/long HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            time.sleep(1)  # its buffers are full by now
            used = process.cpu_times().user
            time.sleep(1)
            assert process.cpu_times().user - used < 0.3  # it does not read on for nobody
            server.call("GET", "/v1/health")
        time.sleep(0.5)
        used = process.cpu_times().user
        time.sleep(1)
        assert process.cpu_times().user - used < 0.3
    assert growth[0] < 50


def test_a_kill_in_the_middle_of_an_ingest_costs_nothing_and_a_job_on_it_waits(
    tmp_path: Path, model_server: ModelServer
) -> None:
    path = tmp_path / "long.jsonl"
    _write(path, 300_000)
    settings = {
        "dataset_roots": [str(tmp_path)],
        "providers": [lab(model_server)],
        "registered_resources": {"models": [{"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"}]},
    }
    with LiveServer(tmp_path, **settings) as server:
        _register(server, path)
        benchmark = {"benchmark_id": "sums-eq", "dataset_id": "long", "scoring_functions": ["basic::equality"]}
        server.call("POST", "/v1alpha/eval/benchmarks", benchmark)
        body = candidate("sums-1") | {"num_examples": 5}
        eval_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", body)["job_id"]
        metadata = _wait(server, lambda metadata: metadata["num_rows"] > 20_000)
        assert metadata["state"] == "reading"
        assert server.call("GET", f"/v1alpha/jobs/{eval_id}")["status"] == "scheduled"
        page = server.call("GET", "/v1beta/datasetio/iterrows/long", start_index=10_000, limit=2)
        assert [row["question"] for row in page["data"]] == ["10000+1", "10001+1"]
        server.kill()

        server.start()
        metadata = _wait(server, lambda metadata: metadata["state"] != "reading")
        assert (metadata["state"], metadata["num_rows"]) == ("ready", 300_000)
        ingest = server.call("GET", f"/v1alpha/jobs/{metadata['ingest_job_id']}")
        assert ingest["attempt"] >= 2
        answer = server.http.get("/v1beta/datasetio/iterrows/long")
        assert answer.text == '{"data":[' + ",".join(path.read_text().splitlines()) + '],"has_more":false,"url":null}'
        assert server.wait_for_job(eval_id)["status"] == "completed"
        result = server.call("GET", f"/v1alpha/eval/benchmarks/sums-eq/jobs/{eval_id}/result")
        assert [row["generated_answer"] for row in result["generations"]] == ["1", "2", "3", "4", "5"]


def test_the_command_line_waits_for_a_long_source(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    _write(path, 200_000)
    with LiveServer(tmp_path, dataset_roots=[str(tmp_path)]) as server:

        def register(*more: str) -> subprocess.CompletedProcess[str]:
            words = ["datasets", "register", *more, "--purpose", "eval/question-answer", "--uri", path.as_uri()]
            return subprocess.run(
                [sys.executable, "-m", "paddock", *words, "--url", server.url],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        done = register("long")
        assert (done.returncode, done.stdout) == (0, "long holds 200,000 rows.\n"), done.stderr
        assert "More are being read." in register("other", "--no-follow").stdout
        path.write_text("[]\n" + path.read_text())
        failed = register("broken")
        assert failed.returncode == 1
        assert "Line 1 of the source is not an object" in failed.stderr


def test_an_ingest_that_meets_a_wrong_line_says_which(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    _write(path, 200_000)
    with path.open("a") as file:
        file.write("{broken\n")
    with LiveServer(tmp_path, dataset_roots=[str(tmp_path)]) as server:
        _register(server, path)
        metadata = _wait(server, lambda metadata: metadata["state"] != "reading")
        assert metadata["state"] == "failed"
        assert metadata["error"].startswith("Line 200001 of the source is not valid JSON")
        body = {
            "dataset_id": "long",
            "purpose": "eval/question-answer",
            "source": {"type": "uri", "uri": path.as_uri()},
        }
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        again = server.http.post(
            "/v1beta/datasets", content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert again.json()["metadata"]["state"] == "reading"
        metadata = _wait(server, lambda metadata: metadata["state"] != "reading")
        assert (metadata["state"], metadata["num_rows"]) == ("ready", 200_000)

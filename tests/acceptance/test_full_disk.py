"""A disk that is really full: a small file system of the server's own, mounted where nobody else sees it. Where that may
not be, a database that gets no more pages stands in for it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bodies import candidate, fine_tune, lab, register_chats, register_sums
from live_server import LiveServer
from model_server import ModelServer

DISK_FULL = "The disk is full. Make room, then send the request again."
APPEND = "/v1beta/datasetio/append-rows/journal"
RUN_EVAL = "/v1alpha/eval/benchmarks/sums-eq/jobs"

_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
_ALONE = ("unshare", "--user", "--map-root-user", "--mount")

_can_mount = subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode == 0
with_a_disk = pytest.mark.skipif(not _can_mount, reason="this system lets nobody mount a disk of his own")


def on_a_disk_of(megabytes: int, folder: Path, **settings: Any) -> LiveServer:
    """A server whose data directory is a file system of that size."""
    (folder / "data").mkdir()
    mount = ("sh", "-c", _MOUNT, "sh", f"{megabytes}m", str(folder / "data"))
    # Without a process that waits for the next job, every child of the server is a job's.
    return LiveServer(folder, inside=[*_ALONE, *mount], ready_job_process=False, **settings)


def disk(server: LiveServer) -> Path:
    """The server's data directory, as it sees it."""
    return Path(f"/proc/{server.pid}/root") / server.data_dir.relative_to("/")


@contextmanager
def ballast(server: LiveServer) -> Iterator[None]:
    """A file that leaves no byte of the disk, until the block is left."""
    path = disk(server) / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        path.unlink()


def register_journal(server: LiveServer) -> None:
    source = {"type": "rows", "rows": []}
    body = {"dataset_id": "journal", "purpose": "eval/question-answer", "source": source}
    server.http.post("/v1beta/datasets", json=body).raise_for_status()


def journal(server: LiveServer) -> list[int]:
    """The numbers of the rows that are there."""
    return [row["answer"] for row in server.call("GET", "/v1beta/datasetio/iterrows/journal")["data"]]


def append(server: LiveServer, first: int, count: int, size: int) -> int:
    """Append numbered rows of so many bytes. Returns the status."""
    rows = [{"question": "x" * size, "answer": n} for n in range(first, first + count)]
    answer = server.http.post(APPEND, json={"rows": rows})
    if answer.status_code != 200:
        error = answer.json()
        assert (answer.status_code, error["title"]) == (507, "Insufficient Storage"), error
        assert error["detail"] == "The disk is full: nothing of this request was stored."
    return answer.status_code


def append_until_full(server: LiveServer, first: int) -> int:
    """What the database's files have room for still goes in: large calls first, then what is left for small ones. Returns
    the number of rows that were stored."""
    stored = 0
    for count, size in ((50, 4000), (5, 1000), (1, 10)):
        statuses: list[int] = []
        while statuses[-3:] != [507] * 3:
            statuses.append(append(server, first + stored, count, size))
            stored += count * (statuses[-1] == 200)
            assert len(statuses) < 500
    return stored


def wait_for_processes(server: LiveServer) -> None:
    """Until no job has a process any more."""
    deadline = time.monotonic() + 60
    while any(child.status() != psutil.STATUS_ZOMBIE for child in psutil.Process(server.pid).children()):
        assert time.monotonic() < deadline, server.log[-5000:]
        time.sleep(0.1)


def check_database(server: LiveServer, copy: Path) -> None:
    """To be called while nobody writes; SQLite opens no file through `/proc`, so it looks at a copy."""
    copy.mkdir()
    for name in ("paddock.db", "paddock.db-wal"):
        shutil.copyfile(disk(server) / name, copy / name)
    connection = sqlite3.connect(copy / "paddock.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    finally:
        connection.close()


@with_a_disk
def test_appends_and_jobs_on_a_full_disk_and_after_it(
    tmp_path: Path, tiny_llama: Path, model_server: ModelServer
) -> None:
    models = [
        {"model_id": "m", "provider_id": "lab", "model_type": "llm"},
        {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
    ]
    settings = {"providers": [lab(model_server, max_concurrency=2)], "registered_resources": {"models": models}}
    with on_a_disk_of(64, tmp_path, **settings) as server:
        register_journal(server)
        register_sums(server, 4000)
        register_chats(server)
        tune = fine_tune("tune", "tiny", epochs=1000)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", tune)
        server.wait_until("tune", lambda job: job["progress"] and job["progress"]["done"] >= 20)
        eval_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 10)
        assert append(server, 0, 3, 100) == 200
        stored = 3
        with ballast(server):
            stored += append_until_full(server, stored)
            assert journal(server) == list(range(stored))
            # They meet it too, and end; how they ended may itself have no room yet.
            wait_for_processes(server)
            assert server.call("GET", "/v1/health") == {"status": "OK"}

        for job_id in (eval_id, "tune"):
            job = server.wait_for_job(job_id)
            assert (job["status"], job["error"], job["retryable"]) == ("failed", DISK_FULL, True), job
        check_database(server, tmp_path / "copy")
        result = server.call("GET", f"{RUN_EVAL}/{eval_id}/result")
        scored = [row["score"] for row in result["scores"]["basic::equality"]["score_rows"]]
        assert len(scored) == len(result["generations"]) < 4000
        assert {score for score in scored if score is not None} == {1.0}
        published = server.call("GET", "/v1alpha/post-training/job/status", job_uuid="tune")["checkpoints"]
        folders = sorted(path.name for path in (disk(server) / "checkpoints").rglob("epoch-*"))
        assert len(folders) == len(published)
        assert list(disk(server).rglob("*.unfinished")) == []

        # There is room again, and everything works.
        assert append(server, stored, 50, 4000) == 200
        assert journal(server) == list(range(stored + 50))
        few = candidate("m") | {"num_examples": 20}
        assert server.wait_for_job(server.call("POST", RUN_EVAL, few)["job_id"])["status"] == "completed"


@with_a_disk
def test_a_source_that_is_larger_than_the_disk(tmp_path: Path) -> None:
    lines = [f'{{"question":"{"x" * 200}","answer":{n}}}' for n in range(100_000)]
    (tmp_path / "long.jsonl").write_text("\n".join(lines) + "\n")
    with on_a_disk_of(16, tmp_path, dataset_roots=[str(tmp_path)]) as server:
        register_journal(server)
        # Room for what is noted and deleted afterwards.
        (disk(server) / "reserve").write_bytes(bytes(2_000_000))
        source = {"type": "uri", "uri": (tmp_path / "long.jsonl").as_uri()}
        body = {"dataset_id": "long", "purpose": "eval/question-answer", "source": source}
        job_id = server.call("POST", "/v1beta/datasets", body)["metadata"]["ingest_job_id"]
        server.wait_until(job_id, lambda job: job["attempt"] > 0 and job["progress"] is not None)
        wait_for_processes(server)
        num_rows = server.call("GET", "/v1beta/datasets/long")["metadata"]["num_rows"]
        assert 0 < num_rows < len(lines)
        answer = server.http.get("/v1beta/datasetio/iterrows/long")
        assert answer.text == '{"data":[' + ",".join(lines[:num_rows]) + '],"has_more":false,"url":null}'
        (disk(server) / "reserve").unlink()
        job = server.wait_for_job(job_id)
        assert (job["status"], job["error"], job["retryable"]) == ("failed", DISK_FULL, True)
        check_database(server, tmp_path / "copy")
        server.http.delete("/v1beta/datasets/long").raise_for_status()
        assert append(server, 0, 3, 100) == 200


def test_a_database_that_cannot_grow(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, hook = tmp_path / "full", Path(__file__).parent / "full_disk_hook"
    monkeypatch.setenv("FULL_WHILE", str(mark))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]))
    models = [{"model_id": "m", "provider_id": "lab", "model_type": "llm"}]
    settings = {"providers": [lab(model_server, max_concurrency=2)], "registered_resources": {"models": models}}
    with LiveServer(tmp_path, **settings) as server:
        register_journal(server)
        register_sums(server, 4000)
        eval_id = server.call("POST", RUN_EVAL, candidate("m"))["job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 10)
        assert append(server, 0, 3, 100) == 200
        mark.touch()
        stored = 3 + append_until_full(server, 3)
        assert journal(server) == list(range(stored))
        job = server.wait_for_job(eval_id)
        assert (job["status"], job["error"], job["retryable"]) == ("failed", DISK_FULL, True), job
        # A server that starts on a full disk shows all there is, and takes nothing that it could not keep.
        server.kill()
        server.start()
        assert journal(server) == list(range(stored))
        assert append(server, stored, 50, 4000) == 507
        result = server.call("GET", f"{RUN_EVAL}/{eval_id}/result")
        scored = [row["score"] for row in result["scores"]["basic::equality"]["score_rows"]]
        assert 0 < len(scored) == len(result["generations"]) < 4000
        assert {score for score in scored if score is not None} == {1.0}
        mark.unlink()
        assert append(server, stored, 50, 4000) == 200
        assert journal(server) == list(range(stored + 50))
        few = candidate("m") | {"num_examples": 20}
        assert server.wait_for_job(server.call("POST", RUN_EVAL, few)["job_id"])["status"] == "completed"

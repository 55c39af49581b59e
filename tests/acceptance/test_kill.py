"""Promise one: kill it anywhere. `kill -9` in the middle of a training, an evaluation and an ingest, then start again."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bodies import candidate, fine_tune, lab, register_chats, register_sums, sums
from live_server import LiveServer
from model_server import ModelServer, last_user_text
from paddock.storage import tables
from paddock.storage.database import Database
from processes import processes_of

NUM_ROWS = 600
NUM_EPOCHS = 24
STEPS_PER_EPOCH = 16
NUM_INGESTED = 200_000


def _models(tiny_llama: Path) -> dict[str, Any]:
    return {
        "models": [
            {"model_id": "sums-1", "provider_id": "lab", "model_type": "llm"},
            {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny_llama), "model_type": "llm"},
        ]
    }


@dataclass(frozen=True)
class Units:
    """What the database holds of each job's units: evaluated rows, times of training steps, rows read."""

    evaluated: set[int]
    steps_at: dict[int, float]
    resume_step: int
    num_checkpoints: int
    num_rows_read: int


def _units(database_url: str, server: LiveServer, eval_id: str) -> Units:
    database = Database(database_url, sqlite_file=server.data_dir / "paddock.db")
    try:
        with database.read() as connection:
            evaluated = connection.execute(
                sa.select(tables.scores.c.row_index).where(tables.scores.c.job_id == eval_id)
            ).scalars()
            steps = connection.execute(
                sa.select(tables.job_metrics.c.step, tables.job_metrics.c.at).where(
                    tables.job_metrics.c.job_id == "tune"
                )
            )
            return Units(
                evaluated=set(evaluated),
                steps_at={row.step: row.at for row in steps},
                resume_step=connection.execute(sa.select(tables.resume_points.c.step)).scalar() or 0,
                num_checkpoints=len(connection.execute(sa.select(tables.checkpoints.c.epoch)).all()),
                num_rows_read=connection.execute(sa.select(tables.ingests.c.num_rows_read)).scalar_one(),
            )
    finally:
        database.close()


def _wait_for_nobody(server: LiveServer) -> None:
    """No process of a server is left, its jobs' neither, though nobody told them to go."""
    deadline = time.monotonic() + 10
    while left := processes_of(server.data_dir):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_an_evaluation_a_training_and_an_ingest_go_on_and_repeat_nothing(
    tmp_path: Path, tiny_llama: Path, model_server: ModelServer, database_url: str
) -> None:
    settings = {
        "database_url": database_url,
        "providers": [lab(model_server, max_concurrency=2)],
        "registered_resources": _models(tiny_llama),
        "dataset_roots": [str(tmp_path)],
        "max_running_jobs": 3,
        "lease_seconds": 2,
    }
    lines = [f'{{"question":"{n}+1","answer":"{n + 1}","weight":{n}.10}}' for n in range(NUM_INGESTED)]
    (tmp_path / "long.jsonl").write_text("\n".join(lines) + "\n")
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, NUM_ROWS)
        register_chats(server)
        # Training first: it takes some seconds to load torch, in which the others would be done.
        body = fine_tune("tune", "tiny", epochs=NUM_EPOCHS)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", body)
        server.wait_until("tune", lambda job: job["progress"] and job["progress"]["done"] >= STEPS_PER_EPOCH + 4)
        eval_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("sums-1"))["job_id"]
        source = {"type": "uri", "uri": (tmp_path / "long.jsonl").as_uri()}
        long = {"dataset_id": "long", "purpose": "eval/question-answer", "source": source}
        ingest_id = server.call("POST", "/v1beta/datasets", long)["metadata"]["ingest_job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 50)
        job_ids = (eval_id, "tune", ingest_id)
        # Its progress is not told before its end is near; the dataset's length is.
        while server.call("GET", "/v1beta/datasets/long")["metadata"]["num_rows"] < 10_000:
            time.sleep(0.02)
        server.call("POST", "/v1beta/datasetio/append-rows/sums", {"rows": sums(NUM_ROWS, 3)})
        before = {job_id: server.call("GET", f"/v1alpha/jobs/{job_id}")["status"] for job_id in job_ids}
        assert set(before.values()) == {"in_progress"}, before
        server.kill()

        _wait_for_nobody(server)
        asked = Counter(last_user_text(body) for _, body, _ in model_server.requests)
        killed = _units(database_url, server, eval_id)
        assert 50 <= len(killed.evaluated) <= asked.total() < NUM_ROWS
        assert killed.resume_step >= STEPS_PER_EPOCH
        assert 10_000 <= killed.num_rows_read < NUM_INGESTED
        server.start()
        jobs = {job_id: server.wait_for_job(job_id, seconds=240) for job_id in job_ids}
        assert {job["status"] for job in jobs.values()} == {"completed"}, jobs
        assert {job["attempt"] for job in jobs.values()} == {2}
        done = _units(database_url, server, eval_id)

        # A row that was stored is not asked for again: twice at most those that were being answered or stored at the kill.
        in_all = Counter(last_user_text(body) for _, body, _ in model_server.requests)
        under_way = {text for text in asked if int(text.partition("+")[0]) not in killed.evaluated}
        twice = {text for text, count in in_all.items() if count > 1}
        assert twice <= under_way
        assert len(in_all) == NUM_ROWS
        assert in_all.total() <= NUM_ROWS + len(under_way)
        result = server.call("GET", f"/v1alpha/eval/benchmarks/sums-eq/jobs/{eval_id}/result")
        assert [row["generated_answer"] for row in result["generations"]] == [str(2 * i + 1) for i in range(NUM_ROWS)]
        accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
        assert (accuracy["num_correct"], accuracy["num_failed"]) == (NUM_ROWS, 0)
        assert server.call("GET", "/v1beta/datasets/sums")["metadata"]["num_rows"] == NUM_ROWS + 3

        # A step's point tells when it was taken: those up to the last checkpoint were taken once, before the kill.
        assert list(done.steps_at) == list(range(1, NUM_EPOCHS * STEPS_PER_EPOCH + 1))
        taken_again = [step for step, at in done.steps_at.items() if at != killed.steps_at.get(step)]
        assert taken_again == list(range(killed.resume_step + 1, NUM_EPOCHS * STEPS_PER_EPOCH + 1))
        status = server.call("GET", "/v1alpha/post-training/job/status", job_uuid="tune")
        assert [checkpoint["epoch"] for checkpoint in status["checkpoints"]] == list(range(1, NUM_EPOCHS + 1))
        assert killed.resume_step >= (killed.num_checkpoints - 1) * STEPS_PER_EPOCH

        # Each row is there once, as it stands in the file.
        answer = server.http.get("/v1beta/datasetio/iterrows/long")
        assert answer.text == '{"data":[' + ",".join(lines) + '],"has_more":false,"url":null}'
        print(
            f"killed with {len(killed.evaluated)} of {NUM_ROWS} rows evaluated, step {max(killed.steps_at)} (saved: "
            f"{killed.resume_step}) and {killed.num_rows_read} of {NUM_INGESTED} rows read; asked twice: {len(twice)}"
        )
        server.stop()
        assert processes_of(server.data_dir) == []


def test_a_polite_end_hands_jobs_back(tmp_path: Path, tiny_llama: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server, max_concurrency=1)], "registered_resources": _models(tiny_llama)}
    with LiveServer(tmp_path, **settings) as server:
        register_sums(server, 100)
        eval_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("sums-1"))["job_id"]
        server.wait_until(eval_id, lambda job: job["progress"] and job["progress"]["done"] >= 5)
        assert server.stop() == 0
        assert processes_of(server.data_dir) == []
        server.start()
        assert server.wait_for_job(eval_id)["status"] == "completed"
        events = [event["event"] for event in server.call("GET", f"/v1alpha/jobs/{eval_id}/events")["data"]]
        assert events == ["submitted", "started", "handed back", "started", "completed"]
        # Nothing was lost on the way: a polite end stores what is in flight.
        assert len(model_server.requests) == 100


def test_cancel_stops_the_process(tmp_path: Path, tiny_llama: Path, model_server: ModelServer) -> None:
    settings = {"providers": [lab(model_server)], "registered_resources": _models(tiny_llama)}
    with LiveServer(tmp_path, **settings) as server:
        register_chats(server)
        server.call("POST", "/v1alpha/post-training/supervised-fine-tune", fine_tune("tune", "tiny", epochs=1000))
        server.wait_until("tune", lambda job: job["progress"] and job["progress"]["done"] >= 3)
        assert any("run-job" in process for process in processes_of(server.data_dir))
        response = server.http.post("/v1alpha/post-training/job/cancel", json={"job_uuid": "tune"})
        assert response.status_code == 200
        assert server.call("GET", "/v1alpha/jobs/tune")["status"] == "cancelled"
        for _ in range(200):
            if not any("run-job" in process for process in processes_of(server.data_dir)):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the job's process is still there")
        assert server.call("GET", "/v1alpha/jobs/tune")["status"] == "cancelled"

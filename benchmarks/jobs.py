"""A server on a database with 100,000 ended and 1,000 scheduled jobs: how soon it answers, how long a page of the list
takes, how soon a job whose server was killed runs again.

    python benchmarks/jobs.py [NUM_ENDED [NUM_SCHEDULED]]
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import sqlalchemy as sa

from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database
from paddock.storage.tables import job_events, jobs
from startup import free_port

_NUM_ORPHANS = 2
_LOT = 10_000


def fill(database: Database, num_ended: int, num_scheduled: int) -> None:
    """Jobs as a server leaves them that is killed: ended ones first, then running and scheduled ones."""
    now = time.time()
    request = json.dumps({"plan": {"candidate": {"model": "m"}, "functions": ["basic::equality"] * 8}, "num_rows": 100})
    common = {"kind": "eval", "request_json": request, "num_lost": 0, "progress_done": 0, "created_at": now}
    ended = {"status": "completed", "attempt": 1, "started_at": now, "ended_at": now}
    running = {
        **{"status": "in_progress", "attempt": 1, "started_at": now},
        **{"worker_id": "gone", "lease_expires_at": now + 15},
    }
    scheduled = {"status": "scheduled", "attempt": 0}
    total = num_ended + _NUM_ORPHANS + num_scheduled
    for start in range(0, total, _LOT):
        numbers = range(start, min(total, start + _LOT))
        for state, chosen in (
            (ended, [n for n in numbers if n < num_ended]),
            (running, [n for n in numbers if num_ended <= n < num_ended + _NUM_ORPHANS]),
            (scheduled, [n for n in numbers if n >= num_ended + _NUM_ORPHANS]),
        ):
            if not chosen:
                continue
            with database.write() as connection:
                connection.execute(sa.insert(jobs), [{"job_id": f"job-{n}", **common, **state} for n in chosen])
                events = ["submitted"] + ["started"] * (state["attempt"] == 1) + ["completed"] * (state is ended)
                history = [
                    {"job_id": f"job-{n}", "attempt": int(event != "submitted"), "at": now, "event": event}
                    for n in chosen
                    for event in events
                ]
                connection.execute(sa.insert(job_events), history)


def main() -> None:
    num_ended = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    num_scheduled = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {psutil.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        data_dir = DataDir(Path(folder) / "data")
        data_dir.create()
        database = Database("sqlite", sqlite_file=data_dir.database_file)
        database.migrate()
        started = time.monotonic()
        fill(database, num_ended, num_scheduled)
        print(
            f"{num_ended} ended, {_NUM_ORPHANS} orphaned, {num_scheduled} scheduled: {time.monotonic() - started:.1f} s"
        )
        port = free_port()
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "paddock", "serve", "--data-dir", str(data_dir.root), "--port", str(port)],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PADDOCK_MAX_RUNNING_JOBS": "2"},
        )
        try:
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
            measure(client, psutil.Process(process.pid), database, started, num_ended)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            database.close()


def measure(client: httpx.Client, server: psutil.Process, database: Database, started: float, num_ended: int) -> None:
    while True:
        try:
            assert client.get("/v1/health").status_code == 200
            break
        except httpx.TransportError:
            assert time.monotonic() - started < 60
            time.sleep(0.005)
    seconds = time.monotonic() - started
    used = server.cpu_times()
    print(f"{'ready':<42}{seconds:>8.2f} s, {used.user + used.system:.2f} s of them on a processor")
    orphan = sa.select(job_events.c.event_id).where(
        job_events.c.job_id == f"job-{num_ended}", job_events.c.event == "started", job_events.c.attempt == 2
    )
    while True:
        with database.read() as connection:
            if connection.execute(orphan).first() is not None:
                break
        assert time.monotonic() - started < 60
        time.sleep(0.005)
    print(f"{'first orphan running again, from the start':<42}{time.monotonic() - started:>8.2f} s")
    for what, parameters in {
        "the newest 100 jobs": {},
        "100 jobs in the middle": {"before": num_ended // 2},
        "100 of one kind": {"kind": "eval", "before": num_ended // 2},
        "a kind that there is not": {"kind": "sft"},
        "100 of one status": {"status": "completed"},
        "100 of one kind and status": {"kind": "eval", "status": "scheduled"},
    }.items():
        seconds = []
        for _ in range(20):
            asked = time.monotonic()
            client.get("/v1alpha/jobs", params=parameters).raise_for_status()
            seconds.append(time.monotonic() - asked)
        print(f"{what:<42}{statistics.median(seconds) * 1000:>8.1f} ms, at most {max(seconds) * 1000:.1f}")


if __name__ == "__main__":
    main()

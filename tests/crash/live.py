"""Crash schedules with real servers and job processes: a seed says which durable write of which process kills or stops
it, and what else happens meanwhile. One server lives through several schedules; on PostgreSQL there are two.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from bodies import candidate, lab, sums
from crash.faulty_database import WHERES
from crash.invariants import FINAL, Watch, require
from live_server import LiveServer
from model_server import ModelServer, last_user_text
from paddock.datasets.store import DatasetStore
from paddock.jobs.store import JobStore
from paddock.storage.database import Database
from paddock.storage.tables import generations, jobs

NUM_ROWS = 12
LEASE_SECONDS = 1.5
MAX_LOST = 20

_WRITES = {
    "server": (
        *("store.submit", "store.append", "store.cancel", "store.claim"),
        *("worker._renew_leases", "worker._give_back", "worker._recover"),
    ),
    "job": ("progress.report", "job._store", "runners.end_well"),
}
_POINTS = [(role, write, where) for role, writes in _WRITES.items() for write in writes for where in WHERES]
_END_SECONDS = 60.0


def _answer(body: dict[str, Any]) -> str:
    left, _, right = last_user_text(body).partition("+")
    return str(int(left) + int(right))


class LiveWorld:
    """`with LiveWorld(url, folder, crashes) as world: world.run(seed)`."""

    def __init__(self, database_url: str, folder: Path, crashes: Counter[tuple[str, str]]) -> None:
        self._plan = folder / "plan.json"
        self._crashes = crashes
        self._model_server = ModelServer(_answer, delay_seconds=0.01)
        self._folders = [folder / "one"] if database_url == "sqlite" else [folder / "one", folder / "two"]
        self._url = database_url
        self.servers: list[LiveServer] = []
        self.cancel_seconds: list[float] = []
        self._asleep_since: dict[int, float] = {}
        self.database: Database

    def __enter__(self) -> LiveWorld:
        self._environment = dict(os.environ)
        hook = Path(__file__).parent / "hook"
        os.environ["PYTHONPATH"] = os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])
        os.environ["CRASH_PLAN"] = str(self._plan)
        self._model_server.__enter__()
        for number, folder in enumerate(self._folders):
            folder.mkdir()
            settings: dict[str, Any] = {
                "database_url": self._url,
                "providers": [lab(self._model_server, max_concurrency=2)],
                "lease_seconds": LEASE_SECONDS,
                "max_lost_attempts": MAX_LOST,
                "registered_resources": {"models": [{"model_id": "m", "provider_id": "lab", "model_type": "llm"}]},
            }
            server = LiveServer(folder, **settings)
            server.start()
            self.servers.append(server)
            if number == 0:
                self._register(server)
        self.database = Database(self._url, sqlite_file=self._folders[0] / "data" / "paddock.db")
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGCONT)
            server.__exit__()
        self.database.close()
        self._model_server.__exit__(None, None, None)
        os.environ.clear()
        os.environ.update(self._environment)

    def _register(self, server: LiveServer) -> None:
        for dataset_id, rows in (("sums", sums(0, NUM_ROWS)), ("journal", [])):
            source = {"type": "rows", "rows": rows}
            body = {"dataset_id": dataset_id, "purpose": "eval/question-answer", "source": source}
            server.call("POST", "/v1beta/datasets", body)
        body = {"benchmark_id": "sums-eq", "dataset_id": "sums", "scoring_functions": ["basic::equality"]}
        server.http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()

    # ------------------------------------------------------------------------------------------------ the schedule

    def run(self, seed: int) -> None:
        """One schedule. Raises `Violation`."""
        chosen = random.Random(seed)
        role, write, where = _POINTS[seed % len(_POINTS)]
        number = signal.SIGKILL if chosen.random() < 0.6 else signal.SIGSTOP
        plan = {"role": role, "write": write, "where": where, "signal": number}
        server = chosen.choice(self.servers)
        if write == "worker._recover":
            # It is only written where a server was killed before.
            self._strike(server, signal.SIGKILL)
        self._plan.with_suffix(".done").unlink(missing_ok=True)
        self._plan.with_suffix(".new").write_text(json.dumps(plan))
        self._plan.with_suffix(".new").rename(self._plan)
        marker = f"{seed}-{uuid.uuid4().hex[:8]}"
        run_eval = "/v1alpha/eval/benchmarks/sums-eq/jobs"
        job_id = self._ask("POST", run_eval, candidate("m"), key=f"run-{marker}").json()["job_id"]
        watch = Watch(self.database, [job_id], MAX_LOST, acknowledged={job_id}, is_attributed=False)
        watch.look()
        rows = [{"question": marker, "answer": str(index)} for index in range(3)]
        append = self._ask("POST", "/v1beta/datasetio/append-rows/journal", {"rows": rows}, key=f"add-{marker}")
        require(append.status_code == 200, append.text)
        time.sleep(chosen.random() * 0.8)
        if write == "store.cancel" or chosen.random() < 0.25:
            cancel = self._ask("DELETE", f"/v1alpha/jobs/{job_id}")
            require(cancel.status_code in (200, 409), cancel.text)
            if cancel.status_code == 200:
                watch.cancelled.add(job_id)
            watch.look()
        self._something_else(chosen, server, job_id)
        self._wait_for_end(job_id, watch)
        if self._plan.exists():
            self._plan.unlink(missing_ok=True)
        else:
            self._crashes[f"{role} {write}", where] += 1
        watch.at_rest({job_id: NUM_ROWS})
        self._check_rows(job_id, marker, len(rows))
        self._check_processes(job_id)

    def race(self, seed: int) -> None:
        """A cancel at any moment of a job's life; adds to `cancel_seconds` how long after the answer its process was
        gone, if there was one. Raises `Violation`."""
        chosen = random.Random(seed)
        server = chosen.choice(self.servers)
        job_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("m"))["job_id"]
        pid = self._await_process(job_id, server, chosen.random() * 1.5)
        answer = server.http.delete(f"/v1alpha/jobs/{job_id}")
        answered_at = time.monotonic()
        require(answer.status_code in (200, 409), answer.text)
        while pid is not None and psutil.pid_exists(pid):
            require(time.monotonic() - answered_at < 20, f"the process of {job_id} is still there")
            time.sleep(0.001)
        if answer.status_code == 200 and pid is not None:
            self.cancel_seconds.append(time.monotonic() - answered_at)
        ended = server.wait_for_job(job_id)["status"]
        require(ended == ("cancelled" if answer.status_code == 200 else "completed"), f"{job_id} is {ended}")
        again = server.http.delete(f"/v1alpha/jobs/{job_id}").status_code
        require(again == answer.status_code, f"cancelled again: {again}")
        self._check_processes(job_id)

    def _await_process(self, job_id: str, server: LiveServer, seconds: float) -> int | None:
        """Let time pass; the job's process, if it has one by then."""
        time.sleep(seconds)
        found = re.search(rf"Job {job_id} .* runs as process (\d+)", server.log)
        return None if found is None or not psutil.pid_exists(int(found.group(1))) else int(found.group(1))

    def _something_else(self, chosen: random.Random, server: LiveServer, job_id: str) -> None:
        """Now and then, something that no plan names: a kill or a pause at any moment, or a polite restart."""
        what = chosen.random()
        if what < 0.1:
            self._strike(server, signal.SIGKILL)
        elif what < 0.2:
            for process in self._processes_of(job_id):
                process.kill()
        elif what < 0.25:
            self._strike(server, signal.SIGSTOP)
        elif what < 0.3:
            for process in self._processes_of(job_id):
                process.suspend()
        elif what < 0.35 and not server.has_ended:
            self._end_politely(server)

    def _end_politely(self, server: LiveServer) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        while not server.has_ended:
            require(time.monotonic() < deadline, "a polite end takes too long")
            with contextlib.suppress(psutil.NoSuchProcess):
                self._wake(psutil.Process(server.pid))
            time.sleep(0.02)
        # The plan may have killed it on its way out.
        require(server.exit_code in (0, -signal.SIGKILL), f"a polite end has the exit code {server.exit_code}")

    def _strike(self, server: LiveServer, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, number)
        if number == signal.SIGKILL:
            server.wait()

    def _repair(self) -> None:
        """Start servers that are gone; wake up those, and the job processes, that sleep for longer than a lease."""
        for server in self.servers:
            if server.has_ended:
                server.start(meanwhile=self._wake_all)
        self._wake_all()

    def _wake_all(self) -> None:
        mine = {server.pid for server in self.servers}
        for pid in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._wake(psutil.Process(pid))
                for process in psutil.Process(pid).children(recursive=True):  # jobs are the fork server's
                    self._wake(process)

    def _wake(self, process: psutil.Process) -> None:
        if process.status() != psutil.STATUS_STOPPED:
            self._asleep_since.pop(process.pid, None)
            return
        since = self._asleep_since.setdefault(process.pid, time.monotonic())
        if time.monotonic() - since > LEASE_SECONDS * 1.4:
            process.resume()

    def _ask(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        """Ask until there is an answer, as a client does: with the same key, of whichever server answers."""
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = time.monotonic() + _END_SECONDS
        while True:
            for server in self.servers:
                with contextlib.suppress(httpx.TransportError):
                    response = server.http.request(method, path, json=body, headers=headers, timeout=2)
                    if response.status_code < 500:
                        return response
            require(time.monotonic() < deadline, f"nobody answers {method} {path}")
            self._repair()
            time.sleep(0.05)

    def _wait_for_end(self, job_id: str, watch: Watch) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while True:
            self._repair()
            watch.look()
            with self.database.read() as connection:
                status = connection.execute(sa.select(jobs.c.status).where(jobs.c.job_id == job_id)).scalar_one()
            if status in FINAL:
                return
            require(
                time.monotonic() < deadline,
                f"{job_id} does not end: {status}, {JobStore(self.database).events(job_id)}",
            )
            time.sleep(0.05)

    def _check_rows(self, job_id: str, marker: str, num_appended: int) -> None:
        with self.database.read() as connection:
            found = connection.execute(sa.select(generations).where(generations.c.job_id == job_id)).all()
        wrong = [
            row for row in found if json.loads(row.generation_json)["generated_answer"] != str(2 * row.row_index + 1)
        ]
        require(not wrong, f"rows with another row's answer: {wrong}")
        datasets = DatasetStore(self.database, JobStore(self.database))
        journal = datasets.read(datasets.version(datasets.get("journal")))
        appended = [row["answer"] for row in journal if row["question"] == marker]
        require(appended == [str(index) for index in range(num_appended)], f"appended rows: {appended}")

    def _check_processes(self, job_id: str) -> None:
        """A job that has ended leaves no process, once whoever sleeps was woken up."""
        deadline = time.monotonic() + 15
        while left := list(self._processes_of(job_id)):
            require(time.monotonic() < deadline, f"{job_id} has ended, its processes have not: {left}")
            self._repair()
            for process in left:
                # Also one that was stopped before it could ask to die with its server, which is gone.
                with contextlib.suppress(psutil.Error):
                    self._wake(process)
            time.sleep(0.02)

    def _processes_of(self, job_id: str) -> Iterator[psutil.Process]:
        for server in self.servers:
            yield from server.processes_of_job(job_id)

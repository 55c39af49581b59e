"""A long evaluation with a judge that is killed near its end: how soon it goes on, in how much memory, and that nothing
which is recorded is asked again.

    python benchmarks/evaluation_resume.py [--rows 200000] [--killed-at 0.9]

A real server with a job of so many rows, each answered by a model and judged by another, both stand-ins in a process of
their own that note what they were asked. The server and all its processes are killed (SIGKILL), then started again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from aiohttp import web

_LOT_ROWS = 10_000
_COMMANDS = ("serve", "run-job", "fork-jobs", "run-engine")
_JUDGE = {
    "type": "llm_as_judge",
    "judge_model": "judge",
    "prompt_template": "{input_query}: {generated_answer}",
    "judge_score_regexes": [r"Total rating: (\d+)"],
    "aggregation_functions": ["average"],
}


def model_server() -> None:
    """Answers chat requests at once, `GET /calls` with how many each model got, and `GET /repeated` with what it was asked
    more than once. Prints its port."""
    asked: dict[str, Counter[str]] = {"pupil": Counter(), "judge": Counter()}
    calls = Counter[str]()

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        text = body["messages"][-1]["content"]
        asked[body["model"]][text] += 1
        calls[body["model"]] += 1
        said = text.replace("q", "a") if body["model"] == "pupil" else "Total rating: 4"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    async def tell_calls(_request: web.Request) -> web.Response:
        return web.json_response(calls)

    async def tell_repeated(_request: web.Request) -> web.Response:
        repeated = {model: [text for text, count in texts.items() if count > 1] for model, texts in asked.items()}
        return web.json_response(repeated)

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/calls", tell_calls)
        app.router.add_get("/repeated", tell_repeated)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.sleep(3600)

    asyncio.run(serve())


class Server:
    """`paddock serve` on one folder, with the peak of what its processes hold in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peak_bytes: Counter[str] = Counter()
        self._is_over = threading.Event()

    def start(self) -> float:
        """Returns when it was started, in seconds of the monotonic clock."""
        log = self.folder / "log"
        offset = log.stat().st_size if log.exists() else 0
        started_at = time.monotonic()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "paddock", "serve", "--config", str(self.folder / "paddock.yaml")),
                    *("--data-dir", str(self.folder / "data")),
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        while "Paddock serves " not in (text := log.read_bytes()[offset:].decode()):
            assert self.process.poll() is None, text
            time.sleep(0.02)
        self.http = httpx.Client(base_url=text.partition("Paddock serves ")[2].split()[0], timeout=120)
        self._is_over.clear()
        threading.Thread(target=self._watch, daemon=True).start()
        return started_at

    def _watch(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                server = psutil.Process(self.process.pid)
                for process in (server, *server.children(recursive=True)):
                    name = next((word for word in process.cmdline() if word in _COMMANDS), "?")
                    self.peak_bytes[name] = max(self.peak_bytes[name], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue

    def cpu_seconds(self) -> float:
        """What the server and its children have used so far."""
        server = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def end(self, number: int) -> None:
        """Send a signal to the server; by SIGKILL its children go too."""
        self._is_over.set()
        children = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, number)
        self.process.wait(60)
        psutil.wait_procs(children, 30)


def recorded(folder: Path, job_id: str) -> tuple[set[int], set[int]]:
    """Indices of the rows whose answers, and of those whose verdicts, are stored."""
    with sqlite3.connect(folder / "data" / "paddock.db") as database:
        answers = database.execute("SELECT row_index FROM generations WHERE job_id = ?", (job_id,)).fetchall()
        verdicts = database.execute("SELECT row_index FROM scores WHERE job_id = ?", (job_id,)).fetchall()
    return {index for (index,) in answers}, {index for (index,) in verdicts}


def prepare(http: httpx.Client, num_rows: int) -> str:
    """Rows, a judge, a benchmark; returns the id of the job."""
    rows = [{"question": f"q{index}", "answer": f"a{index}"} for index in range(num_rows)]
    body: dict[str, Any] = {"dataset_id": "exam", "purpose": "eval/question-answer"}
    http.post("/v1beta/datasets", json=body | {"source": {"type": "rows", "rows": []}}).raise_for_status()
    for first in range(0, num_rows, _LOT_ROWS):
        lot = {"rows": rows[first : first + _LOT_ROWS]}
        http.post("/v1beta/datasetio/append-rows/exam", json=lot).raise_for_status()
    body = {"scoring_fn_id": "judged", "description": "", "return_type": {"type": "number"}, "params": _JUDGE}
    http.post("/v1/scoring-functions", json=body).raise_for_status()
    body = {"benchmark_id": "bench", "dataset_id": "exam", "scoring_functions": ["judged"]}
    http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()
    config = {"eval_candidate": {"type": "model", "model": "pupil", "sampling_params": {}}}
    answer = http.post("/v1alpha/eval/benchmarks/bench/jobs", json=config).raise_for_status()
    return str(answer.json()["job_id"])


def job(http: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1alpha/jobs/{job_id}").raise_for_status().json()
    assert found["status"] in ("scheduled", "in_progress", "completed"), found
    return found


def num_done(http: httpx.Client, job_id: str) -> int:
    return int((job(http, job_id)["progress"] or {"done": 0})["done"])


def measure(folder: Path, num_rows: int, killed_at: float, backend_url: str) -> None:
    provider = {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": f"{backend_url}/v1", "max_concurrency": 64},
    }
    models = [{"model_id": name, "provider_id": "lab"} for name in ("pupil", "judge")]
    settings = {"port": 0, "providers": [provider], "registered_resources": {"models": models}}
    (folder / "paddock.yaml").write_text(yaml.safe_dump(settings))
    server = Server(folder)
    server.start()
    job_id = prepare(server.http, num_rows)
    began_at = time.monotonic()
    while num_done(server.http, job_id) < killed_at * num_rows:
        time.sleep(0.2)
    seconds = time.monotonic() - began_at
    server.end(signal.SIGKILL)
    answers, verdicts = recorded(folder, job_id)
    print(f"killed after {seconds:.0f} s with {len(answers):,} answers and {len(verdicts):,} verdicts recorded")

    stand_in = httpx.Client(base_url=backend_url, timeout=60)
    calls_before = stand_in.get("/calls").json()["pupil"]
    restarted_at = server.start()
    serves_after = time.monotonic() - restarted_at
    while stand_in.get("/calls").json()["pupil"] == calls_before:
        time.sleep(0.02)
    asked_after = time.monotonic() - restarted_at
    cpu_seconds = server.cpu_seconds()
    while num_done(server.http, job_id) <= len(verdicts):
        time.sleep(0.02)
    recorded_after = time.monotonic() - restarted_at
    while job(server.http, job_id)["status"] != "completed":
        time.sleep(0.2)
    result = server.http.get(f"/v1alpha/eval/benchmarks/bench/jobs/{job_id}/result").json()
    average = result["scores"]["judged"]["aggregated_results"]["average"]
    assert (average["num_scored"], average["num_failed"]) == (num_rows, 0), average
    server.end(signal.SIGTERM)

    repeated = stand_in.get("/repeated").json()
    indices = {model: {int(text.partition(":")[0][1:]) for text in texts} for model, texts in repeated.items()}
    print(
        f"from the restart: it serves after {serves_after:.1f} s, the next question after {asked_after:.1f} s (of all its "
        f"processes {cpu_seconds:.1f} CPU-seconds), its verdict stored by {recorded_after:.1f} s"
    )
    print(
        f"asked again for recorded rows: the model {len(indices['pupil'] & answers)} times, the judge "
        f"{len(indices['judge'] & verdicts)}; in flight at the kill, and paid twice: {len(indices['pupil'])} and "
        f"{len(indices['judge'])}"
    )
    peaks = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(server.peak_bytes.items()))
    print(f"resident at the most: {peaks}")


def main() -> None:
    if sys.argv[1:2] == ["--as-model-server"]:
        model_server()
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--killed-at", type=float, default=0.9, help="as a share of the rows")
    options = parser.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    backend = subprocess.Popen([sys.executable, __file__, "--as-model-server"], stdout=subprocess.PIPE, text=True)
    assert backend.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(backend.stdout.readline())}"
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), options.rows, options.killed_at, url)
    finally:
        backend.kill()
        backend.wait()


if __name__ == "__main__":
    main()

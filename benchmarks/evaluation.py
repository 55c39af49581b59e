"""How fast evaluations of a remote model go: rows through a job of a real server, against a stand-in for a model server.

    PYTHONPATH=tests python benchmarks/evaluation.py [--runs 5] [--rows 1000] [--storm-seconds 20]
        [--only rows|clients|storms]

Measured is the time from the submission of a job to `completed`, results durable. Beside it, in turn and in the same run,
the floor: the same requests by a bare aiohttp client that keeps nothing. Of several clients at once through `evaluate_rows`
the ideal is that bare client with all calls in flight at once; it is shown with 64 as well, for so many connections cost
something too. In theory one answer's delay is enough. CPU seconds are those of the server and of the bare client.

A storm is a model server that refuses (429) what is over its limit. There the figure is the share: requests that it
admitted, of those that it would have admitted to somebody who always asks, from the submission to `completed`. The stand-in
counts both itself (`tests/storms.py`). The job's start is part of the time, so a storm lasts a while; beside it stand the
share since the first request, and when that came.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import yaml
from aiohttp import web

from storms import Bucket, Places, Refused, Storm, Window

# ---------------------------------------------------------------------------------------------------- the other side


@dataclass(frozen=True)
class Kind:
    """A kind of storm: what it admits, the rows that it takes in a second, and how long an answer takes."""

    name: str
    storm: Storm
    rows_a_second: float
    delay_seconds: float = 0.02


KINDS = [
    Kind("200/s", Bucket(200, 20), 200),
    Kind("500/s", Bucket(500, 50), 500),
    Kind("200/s, asks to wait 1 s", Bucket(200, 240, 1.0), 200),
    Kind("200 in each second", Window(200, 1.0, says_when=False), 200),
    Kind("1000 in 5 s, says how long to wait", Window(1000, 5.0, says_when=True), 200),
    Kind("300/s, away every third second", Bucket(300, 30, None, 2.0, 3.0), 200),
    Kind("16 at once, 200 ms each", Places(16), 80, 0.2),
]


def model_server(delay_seconds: float, storm: Storm | None) -> None:
    """Answers chat requests after a delay, those that the storm admits. Prints its port. `/storm` tells of the storm, whose
    time begins with a POST to it."""
    begun_at, current = time.monotonic(), copy.deepcopy(storm)
    num_refused, first_seconds = 0, math.nan

    async def begin(_: web.Request) -> web.Response:
        nonlocal begun_at, current, num_refused, first_seconds
        begun_at, current = time.monotonic(), copy.deepcopy(storm)
        num_refused, first_seconds = 0, math.nan
        return web.json_response({})

    async def tell(_: web.Request) -> web.Response:
        assert current is not None
        now = time.monotonic() - begun_at
        used = current.used(now)
        return web.json_response(
            {
                "share": used / current.allowed(0, now),
                "share_since_first": used / current.allowed(first_seconds, now),
                "first_seconds": first_seconds,
                "num_refused": num_refused,
            }
        )

    async def chat(request: web.Request) -> web.Response:
        nonlocal num_refused, first_seconds
        body = await request.json()
        admitting = current
        if admitting is not None:
            now = time.monotonic() - begun_at
            first_seconds = now if math.isnan(first_seconds) else first_seconds
            try:
                admitting.admit(now)
            except Refused as refused:
                num_refused += 1
                headers = {} if refused.pause_seconds is None else {"Retry-After": f"{refused.pause_seconds:.0f}"}
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
        await asyncio.sleep(delay_seconds)
        if admitting is not None:
            admitting.leave(time.monotonic() - begun_at)
        text = body["messages"][-1]["content"].replace("q", "a")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return web.json_response({"choices": [choice], "usage": usage})

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_post("/storm", begin)
        app.router.add_get("/storm", tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.sleep(3600)

    asyncio.run(serve())


@contextmanager
def backend(delay_seconds: float, kind: str = "") -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--as-model-server", str(delay_seconds), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---------------------------------------------------------------------------------------------------- ours


@contextmanager
def paddock(folder: Path, base_url: str, max_concurrency: int, num_rows: int) -> Iterator[httpx.Client]:
    config = {"base_url": base_url, "max_concurrency": max_concurrency, "timeout_seconds": 60}
    settings = {
        "port": 0,
        "providers": [{"provider_id": "lab", "provider_type": "remote::openai", "config": config}],
        "registered_resources": {"models": [{"model_id": "pupil", "provider_id": "lab"}]},
    }
    (folder / "paddock.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "paddock", "serve"),
                *("--config", str(folder / "paddock.yaml"), "--data-dir", str(folder / "data")),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        while "Paddock serves " not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        url = log.read_text().partition("Paddock serves ")[2].split()[0]
        with httpx.Client(base_url=url, timeout=120) as http:
            rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(num_rows)]
            body: dict[str, Any] = {"dataset_id": "exam", "purpose": "eval/question-answer"}
            http.post("/v1beta/datasets", json=body | {"source": {"type": "rows", "rows": rows}}).raise_for_status()
            body = {"benchmark_id": "bench", "dataset_id": "exam", "scoring_functions": ["basic::equality"]}
            http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()
            yield http
    finally:
        process.terminate()
        process.wait(30)


def run_job(http: httpx.Client) -> tuple[str, float]:
    """One evaluation as a job: its id, and the seconds from submission to `completed`."""
    config = {"eval_candidate": {"type": "model", "model": "pupil", "sampling_params": {}}}
    started_at = time.perf_counter()
    answer = http.post("/v1alpha/eval/benchmarks/bench/jobs", json=config)
    job_id = answer.raise_for_status().json()["job_id"]
    while (job := http.get(f"/v1alpha/eval/benchmarks/bench/jobs/{job_id}").json())["status"] != "completed":
        assert job["status"] in ("scheduled", "in_progress"), job
        time.sleep(max(0.01, 0.01 * (time.perf_counter() - started_at)))  # a hundredth of the time may be over it
    return job_id, time.perf_counter() - started_at


def check_result(http: httpx.Client, job_id: str, num_rows: int) -> None:
    """All rows must be answered."""
    result = http.get(f"/v1alpha/eval/benchmarks/bench/jobs/{job_id}/result").json()
    accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_failed"]) == (num_rows, 0), accuracy


def job_seconds(http: httpx.Client, num_rows: int) -> float:
    job_id, seconds = run_job(http)
    check_result(http, job_id, num_rows)
    return seconds


def many_requests_seconds(url: str, num_clients: int, num_rows: int) -> float:
    """So many clients at once, each with its rows through `evaluate_rows`."""

    async def run() -> float:
        body = {
            "scoring_functions": ["basic::equality"],
            "benchmark_config": {"eval_candidate": {"type": "model", "model": "pupil", "sampling_params": {}}},
            "input_rows": [{"question": f"q{i}", "answer": f"a{i}"} for i in range(num_rows)],
        }
        async with aiohttp.ClientSession() as session:

            async def one() -> None:
                async with session.post(f"{url}/v1alpha/eval/benchmarks/bench/evaluations", json=body) as answer:
                    rows = (await answer.json())["scores"]["basic::equality"]["score_rows"]
                    assert [row["score"] for row in rows] == [1.0] * num_rows

            started_at = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(num_clients)))
            return time.perf_counter() - started_at

    return asyncio.run(run())


def floor_seconds(base_url: str, num_rows: int, max_concurrency: int) -> float:
    """The same requests by a bare client."""

    async def run() -> float:
        turns = asyncio.Semaphore(max_concurrency)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(index: int) -> None:
                body = {"model": "pupil", "messages": [{"role": "user", "content": f"q{index}"}], "temperature": 0}
                async with turns, session.post(f"{base_url}/chat/completions", json=body) as answer:
                    await answer.json()

            started_at = time.perf_counter()
            await asyncio.gather(*(ask(index) for index in range(num_rows)))
            return time.perf_counter() - started_at

    return asyncio.run(run())


# ---------------------------------------------------------------------------------------------------- the whole


def line(name: str, ours: list[float], beside: list[float], num_rows: int) -> str:
    median, floor = statistics.median(ours), statistics.median(beside)
    return f"{name:<44}{median:>8.2f} s{num_rows / median:>9.0f} rows/s{floor:>9.2f} s{median / floor:>8.2f}"


def measure(folder: Path, runs: int, num_few_rows: int) -> None:
    print(f"{'median of ' + str(runs):<44}{'job':>10}{'':>16}{'bare':>10}{'ratio':>9}")
    for delay_ms, max_concurrency in ((0, 64), (20, 32), (20, 64), (20, 256), (20, 1024), (50, 1024)):
        # Where answers come at once, so many more that the time is not the start's.
        num_rows = num_few_rows if delay_ms else 20 * num_few_rows
        with backend(delay_ms / 1000) as base_url:
            place = folder / f"{delay_ms}-{max_concurrency}"
            place.mkdir()
            with paddock(place, base_url, max_concurrency, num_rows) as http:
                pairs = [
                    (job_seconds(http, num_rows), floor_seconds(base_url, num_rows, max_concurrency))
                    for _ in range(runs + 1)
                ][1:]
            name = f"{num_rows} rows, {delay_ms} ms, at most {max_concurrency} in flight"
            print(line(name, [a for a, _ in pairs], [b for _, b in pairs], num_rows), flush=True)


def measure_clients(folder: Path, runs: int) -> None:
    place = folder / "clients"
    place.mkdir()
    with backend(0.02) as base_url, paddock(place, base_url, 1024, 1) as http:
        url = str(http.base_url).rstrip("/")
        pupils = [child for child in psutil.Process().children() if "serve" in child.cmdline()]
        ours, bare, bare_64, cpu, bare_cpu = ([] for _ in range(5))
        for _ in range(runs + 1):
            before = cpu_seconds(pupils)
            ours.append(many_requests_seconds(url, 16, 50))
            cpu.append(cpu_seconds(pupils) - before)
            before = cpu_seconds([psutil.Process()])
            bare.append(floor_seconds(base_url, 800, 800))
            bare_cpu.append(cpu_seconds([psutil.Process()]) - before)
            bare_64.append(floor_seconds(base_url, 800, 64))
    print(f"{'16 clients, 50 rows each at once, 20 ms':<44}{'ours':>10}{'':>16}{'bare':>10}{'ratio':>9}")
    print(line("  bare: all at once (the ideal)", ours[1:], bare[1:], 800))
    print(line("  bare: 64 at once", ours[1:], bare_64[1:], 800))
    print(f"{'  CPU seconds':<44}{statistics.median(cpu[1:]):>8.2f} s{'':>16}{statistics.median(bare_cpu[1:]):>8.2f} s")


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def measure_storms(folder: Path, runs: int, seconds: float) -> None:
    print(
        f"{'storms of 429, median of ' + str(runs):<48}{'share':>7}{'since first':>13}{'first at':>10}{'refused/row':>13}"
    )
    for kind in KINDS:
        num_rows = round(kind.rows_a_second * seconds / 1000) * 1000  # windows are used up
        place = folder / kind.name.replace("/", " ")
        place.mkdir()
        told = []
        with backend(kind.delay_seconds, kind.name) as base_url, paddock(place, base_url, 1024, num_rows) as http:
            address = base_url.replace("/v1", "/storm")
            for _ in range(runs):
                httpx.post(address)
                job_id, _ = run_job(http)
                told.append(httpx.get(address).json())
                check_result(http, job_id, num_rows)
        of = {name: statistics.median(one[name] for one in told) for name in told[0]}
        print(
            f"{f'{num_rows} rows at {kind.name}':<48}{of['share']:>7.1%}{of['share_since_first']:>13.1%}"
            f"{of['first_seconds']:>8.2f} s{of['num_refused'] / num_rows:>13.2f}",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["--as-model-server"]:
        delay, name = sys.argv[2:]
        model_server(float(delay), next((kind.storm for kind in KINDS if kind.name == name), None))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--storm-seconds", type=float, default=20)
    parser.add_argument("--only", choices=["rows", "clients", "storms"])
    options = parser.parse_args()
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {psutil.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "rows"):
            measure(Path(folder), options.runs, options.rows)
        if options.only in (None, "clients"):
            measure_clients(Path(folder), options.runs)
        if options.only in (None, "storms"):
            measure_storms(Path(folder), options.runs, options.storm_seconds)


if __name__ == "__main__":
    main()

"""How fast evaluations of a remote model go: rows through a job of a real server, against a stand-in for a model server.

    python benchmarks/evaluation.py [--runs 5] [--rows 1000]

Measured is the time from the submission of a job to `completed`, results durable. Beside it, in turn and in the same run,
the floor: the same requests by a bare aiohttp client that keeps nothing. A storm is a model server that refuses (429) all
that is over its rate; there the figure is what was answered a second, against that rate.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import yaml
from aiohttp import web

# ---------------------------------------------------------------------------------------------------- the other side


def model_server(delay_seconds: float, rate: float, burst: float, retry_after: str) -> None:
    """Answers chat requests after a delay. At more than `rate` requests a second (0: any) it refuses, with `Retry-After` if
    given. Prints its port."""
    tokens, refilled_at, num_refused = burst, time.monotonic(), 0
    headers = {"Retry-After": retry_after} if retry_after else {}

    async def chat(request: web.Request) -> web.Response:
        nonlocal tokens, refilled_at, num_refused
        body = await request.json()
        if rate:
            now = time.monotonic()
            tokens, refilled_at = min(burst, tokens + (now - refilled_at) * rate), now
            if tokens < 1:
                num_refused += 1
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
            tokens -= 1
        await asyncio.sleep(delay_seconds)
        text = body["messages"][-1]["content"].replace("q", "a")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return web.json_response({"choices": [choice], "usage": usage})

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.sleep(3600)

    asyncio.run(serve())


@contextmanager
def backend(delay_seconds: float, rate: float = 0.0, burst: float = 20.0, retry_after: str = "") -> Iterator[str]:
    arguments = [str(delay_seconds), str(rate), str(burst), retry_after]
    process = subprocess.Popen(
        [sys.executable, __file__, "--as-model-server", *arguments], stdout=subprocess.PIPE, text=True
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


def job_seconds(http: httpx.Client, num_rows: int) -> float:
    """One evaluation as a job; all rows must be answered."""
    config = {"eval_candidate": {"type": "model", "model": "pupil", "sampling_params": {}}}
    started_at = time.perf_counter()
    answer = http.post("/v1alpha/eval/benchmarks/bench/jobs", json=config)
    job_id = answer.raise_for_status().json()["job_id"]
    while (job := http.get(f"/v1alpha/eval/benchmarks/bench/jobs/{job_id}").json())["status"] != "completed":
        assert job["status"] in ("scheduled", "in_progress"), job
        time.sleep(0.01)
    seconds = time.perf_counter() - started_at
    result = http.get(f"/v1alpha/eval/benchmarks/bench/jobs/{job_id}/result").json()
    accuracy = result["scores"]["basic::equality"]["aggregated_results"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_failed"]) == (num_rows, 0), accuracy
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


def measure(folder: Path, runs: int, num_rows: int) -> None:
    print(f"{'median of ' + str(runs):<44}{'job':>10}{'':>16}{'bare':>10}{'ratio':>9}")
    for delay_ms, max_concurrency in ((0, 64), (20, 32), (20, 64), (20, 256), (20, 1024), (50, 1024)):
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
    with backend(0.02) as base_url:
        place = folder / "many"
        place.mkdir()
        with paddock(place, base_url, 1024, 1) as http:
            url = str(http.base_url).rstrip("/")
            pairs = [(many_requests_seconds(url, 16, 50), floor_seconds(base_url, 800, 256)) for _ in range(runs + 1)][
                1:
            ]
        print(line("16 clients, 50 rows each at once, 20 ms", [a for a, _ in pairs], [b for _, b in pairs], 800))


def measure_storms(folder: Path, num_rows: int) -> None:
    print(f"{'storms of 429':<44}{'answered':>14}{'allowed':>12}{'share':>9}")
    for rate, retry_after in ((200.0, ""), (200.0, "1"), (500.0, "")):
        burst = rate * (1.2 if retry_after else 0.1)
        with backend(0.02, rate, burst, retry_after) as base_url:
            place = folder / f"storm-{rate}-{retry_after}"
            place.mkdir()
            with paddock(place, base_url, 1024, num_rows) as http:
                seconds = job_seconds(http, num_rows)
        # The process's start counts; what the bucket held at first is free.
        allowed = (num_rows - burst) / rate
        name = f"{num_rows} rows at {rate:.0f}/s, " + (
            f"Retry-After {retry_after}" if retry_after else "no Retry-After"
        )
        print(
            f"{name:<44}{num_rows / seconds:>10.0f} r/s{num_rows / allowed:>8.0f} r/s{allowed / seconds:>9.1%}",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["--as-model-server"]:
        delay, rate, burst, retry_after = sys.argv[2:]
        model_server(float(delay), float(rate), float(burst), retry_after)
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--storms-only", action="store_true")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {psutil.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        if not options.storms_only:
            measure(Path(folder), options.runs, options.rows)
        measure_storms(Path(folder), 3 * options.rows)


if __name__ == "__main__":
    main()

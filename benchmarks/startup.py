"""How long `paddock serve` takes from its start to a healthy answer, and how much memory it holds then.

Beside it, in turn and in the same run, the floor: a FastAPI app with one route, started the same way.

    python benchmarks/startup.py [RUNS]
"""

from __future__ import annotations

import http.client
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

FLOOR = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/v1/health")
async def health(): return {"status": "OK"}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def measure(command: list[str], port: int) -> tuple[float, float]:
    """Seconds until `/v1/health` answers, and resident megabytes then."""
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/v1/health")
                assert connection.getresponse().status == 200
                break
            except OSError:
                assert process.poll() is None, f"it ended: {command}"
                assert time.perf_counter() - started_at < 60
                time.sleep(0.005)
        seconds = time.perf_counter() - started_at
        return seconds, psutil.Process(process.pid).memory_info().rss / 1e6
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    results: dict[str, list[tuple[float, float]]] = {"paddock serve": [], "bare FastAPI": []}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            port = free_port()
            serve = [sys.executable, "-m", "paddock", "serve", "--port", str(port)]
            ours = measure([*serve, "--data-dir", str(Path(folder) / "data")], port)
            port = free_port()
            floor = measure([sys.executable, "-c", FLOOR, str(port)], port)
            if run > 0:  # the first pair warms the file cache and makes the database
                results["paddock serve"].append(ours)
                results["bare FastAPI"].append(floor)
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"{'median of ' + str(runs):<16}{'to healthy':>12}{'min':>8}{'max':>8}{'resident':>12}")
    for name, pairs in results.items():
        seconds = [pair[0] for pair in pairs]
        megabytes = statistics.median(pair[1] for pair in pairs)
        print(
            f"{name:<16}{statistics.median(seconds):>10.2f} s{min(seconds):>8.2f}{max(seconds):>8.2f}{megabytes:>9.0f} MB"
        )


if __name__ == "__main__":
    main()

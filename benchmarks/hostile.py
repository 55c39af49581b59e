"""Whether hostile requests hold up others: the corpus of the tests, eight at a time, at a live server, while `/v1/health`
is asked every 20 ms over one connection.

    PYTHONPATH=tests:tests/acceptance python benchmarks/hostile.py [ROUNDS]

Who sends is a process of its own, so that its work does not count as the server's. Beside it, in the same run: the same
poll of the same server at rest.
"""

from __future__ import annotations

import http.client
import multiprocessing
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from contract import hostile
from contract.fuzzing.world import served
from contract.hostile_client import problems, send
from tiny_models import make_llama

AT_ONCE = 8
POLL_SECONDS = 0.02
MAX_BODY_BYTES = 16 * 1024 * 1024


def attack(url: str, rounds: int, num_wrong: multiprocessing.Value) -> None:  # type: ignore[valid-type]
    """Send the corpus; counts the answers that are wrong."""

    def one(request: hostile.Hostile) -> int:
        wrong = list(problems(request, send(url, request)))
        if wrong:
            print(f"{request.name}: {wrong}")
        return len(wrong)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        num_wrong.value = sum(pool.map(one, hostile.corpus() * rounds))  # type: ignore[attr-defined]


def poll(url: str, goes_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of each answer of `/v1/health`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    found = []
    while goes_on():
        started_at = time.perf_counter()
        connection.request("GET", "/v1/health")
        assert connection.getresponse().read() == b'{"status":"OK"}'
        found.append((time.perf_counter() - started_at) * 1000)
        threading.Event().wait(POLL_SECONDS)
    return found


def show(name: str, milliseconds: list[float]) -> None:
    hundredths = statistics.quantiles(milliseconds, n=100, method="inclusive")
    print(
        f"{name:<18}{len(milliseconds):>6}{hundredths[49]:>10.1f} ms{hundredths[98]:>10.1f} ms{max(milliseconds):>10.1f} ms"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_llama(Path(folder) / "tiny")
        with served(Path(folder), tiny, with_jobs=False, max_body_bytes=MAX_BODY_BYTES) as server:
            process = psutil.Process(server.pid)
            until = time.monotonic() + 3
            at_rest = poll(server.url, lambda: time.monotonic() < until)
            before = process.memory_info().rss
            spawn = multiprocessing.get_context("spawn")
            num_wrong = spawn.Value("i", -1)
            sender = spawn.Process(target=attack, args=(server.url, rounds, num_wrong))
            sender.start()
            started_at = time.monotonic()
            under_attack = poll(server.url, sender.is_alive)
            seconds = time.monotonic() - started_at
            after = process.memory_info().rss
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    count = rounds * len(hostile.corpus())
    print(f"{count} requests, {AT_ONCE} at a time, in {seconds:.0f} s; wrong answers: {num_wrong.value}")
    print(f"resident: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    print(f"{'health':<18}{'polls':>6}{'p50':>13}{'p99':>13}{'max':>13}")
    show("at rest", at_rest)
    show("under the corpus", under_attack)


if __name__ == "__main__":
    main()

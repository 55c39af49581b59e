"""How soon a checkpoint answers: ten LoRA checkpoints of one training job, each asked as soon as it is published.

    PYTHONPATH=tests:tests/acceptance python benchmarks/checkpoints.py

The base is a random Llama of 30 million weights, which the engine holds already; the job trains on meanwhile. The seconds
are from the publishing, as the checkpoint itself dates it, to the answer over HTTP. Cold is the last one again after the
engine was killed. Memory is the engine's, before the first checkpoint and after all ten, beside the size of their files.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import psutil

from bodies import fine_tune, register_chats
from live_server import LiveServer
from tiny_models import make_llama

NUM_CHECKPOINTS = 10
LIMIT_SECONDS, COLD_LIMIT_SECONDS = 2.0, 20.0


def ask(server: LiveServer, model: str) -> None:
    messages = [{"role": "user", "content": "say 7"}]
    body = {"model": model, "messages": messages, "max_tokens": 4, "temperature": 0}
    answer = server.http.post("/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text


def seconds_after_publishing(server: LiveServer, job_id: str, epoch: int) -> float:
    """From the publishing of an epoch's checkpoint to its first answer."""
    name = f"{job_id}:epoch-{epoch}"
    deadline = time.monotonic() + 300
    while server.http.get(f"/v1/models/{name}").status_code != 200:
        assert time.monotonic() < deadline, server.call("GET", f"/v1alpha/jobs/{job_id}")
        time.sleep(0.01)
    ask(server, name)
    answered_at = time.time()
    artifacts = server.call("GET", "/v1alpha/post-training/job/artifacts", job_uuid=job_id)
    (made,) = [checkpoint for checkpoint in artifacts["checkpoints"] if checkpoint["identifier"] == name]
    return answered_at - datetime.fromisoformat(made["created_at"]).timestamp()


def engine_of(server: LiveServer) -> psutil.Process:
    (engine,) = [p for p in psutil.Process(server.pid).children() if "run-engine" in p.cmdline()]
    return engine


def measure(folder: Path) -> bool:
    """Print the figures; whether they are within the limits."""
    base = make_llama(folder / "base", hidden_size=640, layers=8)
    models = [{"model_id": "base", "provider_id": "local", "provider_model_id": str(base)}]
    with LiveServer(folder, registered_resources={"models": models}) as server:
        register_chats(server, 16)
        ask(server, "base")
        before = engine_of(server).memory_info().rss
        server.call(
            "POST",
            "/v1alpha/post-training/supervised-fine-tune",
            fine_tune("run", "base", epochs=NUM_CHECKPOINTS, steps=1),
        )
        warm = [seconds_after_publishing(server, "run", epoch + 1) for epoch in range(NUM_CHECKPOINTS)]
        growth = engine_of(server).memory_info().rss - before
        of_files = sum(file.stat().st_size for file in server.data_dir.glob("checkpoints/**/adapter_model.safetensors"))
        os.kill(engine_of(server).pid, signal.SIGKILL)
        started_at = time.monotonic()
        ask(server, f"run:epoch-{NUM_CHECKPOINTS}")
        cold = time.monotonic() - started_at
        times = engine_of(server).cpu_times()
    print(f"published to answered, warm   median {statistics.median(warm):.2f} s, worst {max(warm):.2f} s (limit 2 s)")
    cpu = times.user + times.system
    print(f"cold, engine and base to load {cold:.2f} s (limit 20 s), {cpu:.2f} s of them on the processor")
    mib = 2**20
    print(
        f"memory of {NUM_CHECKPOINTS} adapters         {growth / mib:.0f} MiB over the base alone; their files have "
        f"{of_files / mib:.0f} MiB, ten bases would have {10 * (base / 'model.safetensors').stat().st_size / mib:.0f}"
    )
    return max(warm) < LIMIT_SECONDS and cold < COLD_LIMIT_SECONDS


def main() -> int:
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {psutil.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if measure(Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())

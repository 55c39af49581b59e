"""How soon a job's process is gone once its cancel is answered, and how long a server takes to end that has a training under
way.

    python benchmarks/cancels.py [--evaluations 200] [--trainings 10] [--ends 3]

An evaluation has nothing to save: its process is to be gone in 200 ms (median) and 500 ms (99 % of them). A training that
is cancelled saves nothing either, unless it is just then writing a checkpoint; one whose server ends saves its state.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

from bodies import answer_sums, candidate, fine_tune, lab, register_chats, register_sums
from live_server import LiveServer
from model_server import ModelServer
from tiny_models import make_llama, save_byte_tokenizer

NUM_ROWS = 5000


def process_of(server: LiveServer, job_id: str) -> int:
    """The process of the job's last attempt."""
    return int(re.findall(rf"Job {job_id} .* runs as process (\d+)", server.log)[-1])


def cancel(server: LiveServer, job_id: str) -> tuple[float, float]:
    """Seconds until the cancel was answered, and from then on until the job's process was gone."""
    pid = process_of(server, job_id)
    asked_at = time.perf_counter()
    server.http.delete(f"/v1alpha/jobs/{job_id}").raise_for_status()
    answered_at = time.perf_counter()
    while psutil.pid_exists(pid):
        assert time.perf_counter() - answered_at < 30, f"the process of {job_id} is still there"
        time.sleep(0.001)
    return answered_at - asked_at, time.perf_counter() - answered_at


def tell(what: str, seconds: list[float]) -> None:
    """A line: the median, what 99 % stay within (with fewer than a hundred, all of them), and the longest."""
    ordered = sorted(seconds)
    p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    figures = [f"{figure * 1000:7.0f} ms" for figure in (statistics.median(ordered), p99, ordered[-1])]
    print(f"{what:<62}{len(ordered):>5}{''.join(figures)}", flush=True)


def evaluations(server: LiveServer, num: int, chosen: random.Random) -> None:
    """Cancel evaluations at any moment of their work."""
    answers, ends = [], []
    for _ in range(num):
        job_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("m"))["job_id"]
        server.wait_until(job_id, lambda job: job["status"] == "in_progress")
        time.sleep(chosen.uniform(0.05, 1.0))
        answered, ended = cancel(server, job_id)
        answers.append(answered)
        ends.append(ended)
    tell("the answer to the cancel of an evaluation", answers)
    tell("from there until its process is gone", ends)


def trainings(server: LiveServer, num: int, chosen: random.Random) -> None:
    """Cancel trainings at any moment after their first step."""
    ends = []
    for number in range(num):
        begin_training(server, f"tune-{number}", chosen)
        ends.append(cancel(server, f"tune-{number}")[1])
    tell("from the answer to a training's cancel until it is gone", ends)


def ends_of_server(server: LiveServer, num: int, chosen: random.Random) -> None:
    """End the server under a training that saves its state, and start it again."""
    seconds = []
    num_saved = 0
    for number in range(num):
        job_id = f"end-{number}"
        begin_training(server, job_id, chosen)
        started_at = time.perf_counter()
        assert server.stop() == 0
        seconds.append(time.perf_counter() - started_at)
        server.start()
        events = [event["event"] for event in server.call("GET", f"/v1alpha/jobs/{job_id}/events")["data"]]
        assert events[:3] == ["submitted", "started", "handed back"], events
        num_saved += "Stopped as asked" in server.http.get(f"/v1alpha/jobs/{job_id}/logs", params={"attempt": 1}).text
        server.http.delete(f"/v1alpha/jobs/{job_id}").raise_for_status()
    tell("a server's end with a training that saves its state", seconds)
    print(f"  saved within `cancel_grace_seconds`: {num_saved} of {num}")


def begin_training(server: LiveServer, job_id: str, chosen: random.Random) -> None:
    """A long training, somewhere in its first epochs."""
    body = fine_tune(job_id, "tiny", epochs=100_000)
    server.call("POST", "/v1alpha/post-training/supervised-fine-tune", body)
    server.wait_until(job_id, lambda job: job["progress"] and job["progress"]["done"] >= 1)
    time.sleep(chosen.uniform(0.0, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--ends", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {psutil.getloadavg()[0]:.1f}"
    )
    print(f"{'':<62}{'times':>5}{'median':>10}{'99 %':>10}{'longest':>10}")
    chosen = random.Random(0)
    with tempfile.TemporaryDirectory() as name, ModelServer(answer_sums, delay_seconds=0.02) as model_server:
        folder = Path(name)
        tiny = folder / "tiny"
        if arguments.trainings or arguments.ends:
            make_llama(tiny)
            save_byte_tokenizer(tiny)
        models = [
            {"model_id": "m", "provider_id": "lab", "model_type": "llm"},
            {"model_id": "tiny", "provider_id": "local", "provider_model_id": str(tiny), "model_type": "llm"},
        ]
        settings = {"providers": [lab(model_server, max_concurrency=4)], "registered_resources": {"models": models}}
        with LiveServer(folder, **settings) as server:
            register_sums(server, NUM_ROWS)
            register_chats(server)
            for measure, num in (
                (evaluations, arguments.evaluations),
                (trainings, arguments.trainings),
                (ends_of_server, arguments.ends),
            ):
                if num:
                    measure(server, num, chosen)


if __name__ == "__main__":
    main()

"""SIGKILL of training jobs at seeded instants of their every phase (`tests/crash/training.py`): each must end with the same
tensor file, byte for byte, as the one that nobody disturbed.

    python benchmarks/kill_training.py --kills 50
    python benchmarks/kill_training.py --seed 17         # one schedule again

Goes on after the seeds that `ledger.jsonl` counts, and adds a line to it when it ends, by Ctrl-C too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

# As in the jobs: the models for them are made here.
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

from crash.training import TRAININGS, TrainingWorld

LEDGER = Path(__file__).parent / "ledger.jsonl"
NAME = "kill-training"


def next_seed() -> int:
    """The first seed that no earlier run counted."""
    lines = [json.loads(line) for line in LEDGER.read_text().splitlines()] if LEDGER.exists() else []
    return max((line["last_seed"] + 1 for line in lines if line.get("benchmark") == NAME), default=0)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell has its background jobs ignore Ctrl-C
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="go on until so many were struck")
    parser.add_argument("--minutes", type=float, default=60.0, help="or until then")
    parser.add_argument("--seed", type=int, help="run this one alone; the ledger is left as it is")
    arguments = parser.parse_args()
    first = next_seed() if arguments.seed is None else arguments.seed
    violations: dict[int, str] = {}
    phases: Counter[str] = Counter()
    trainings: Counter[str] = Counter()
    started = time.monotonic()
    seed = first
    with tempfile.TemporaryDirectory() as name, TrainingWorld(Path(name).resolve()) as world:
        try:
            while True:
                try:
                    world.run(seed)
                except Exception as error:
                    violations[seed] = f"{type(error).__name__}: {error}"[:300]
                    traceback.print_exc()
                seed += 1
                minutes = (time.monotonic() - started) / 60
                phases, trainings = world.kills, world.kills_of_training
                print(
                    f"seed {seed - 1}: {phases.total()} kills, {len(violations)} violations, {minutes:.1f} min",
                    flush=True,
                )
                if arguments.seed is not None or phases.total() >= arguments.kills or minutes >= arguments.minutes:
                    break
        except KeyboardInterrupt:
            print("Ended; the next run goes on from here.")
    for title, counts in (("in the phase", phases), ("of", trainings)):
        for what, count in sorted(counts.items()):
            print(f"  {title:<14}{what:<28}{count:>5}")
    print(f"{len(violations)} violations")
    if arguments.seed is None and seed > first:
        note(first, seed, phases, trainings, violations, time.monotonic() - started)
    return 1 if violations else 0


def note(
    first: int, end: int, phases: Counter[str], trainings: Counter[str], violations: dict[int, str], seconds: float
) -> None:
    line = {
        "benchmark": NAME,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/kill_training.py", *sys.argv[1:]]),
        "first_seed": first,
        "last_seed": end - 1,
        "num_kills": phases.total(),
        "num_kills_in": dict(sorted(phases.items())),
        "num_kills_of": {name: trainings[name] for name in TRAININGS},
        "violations": violations,
        "seconds": round(seconds, 1),
    }
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())

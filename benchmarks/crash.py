"""Crash testing of jobs at length: schedules of `tests/crash`, one after the other, each a function of its seed.

    python benchmarks/crash.py --level in-process --schedules 5000
    python benchmarks/crash.py --level processes --schedules 300 --database postgresql
    python benchmarks/crash.py --level in-process --seed 4711           # one schedule again

Goes on after the seeds that `ledger.jsonl` counts, and adds a line to it when it ends, by Ctrl-C too. PostgreSQL is the
server of PADDOCK_TEST_POSTGRES_URL; without a `--database`, both are run where there is one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

import databases
from crash.faulty_database import FaultyDatabase
from crash.simulation import World

LEDGER = Path(__file__).parent / "ledger.jsonl"
IN_PROCESS, PROCESSES, CANCELS = "in-process", "processes", "cancels"

RunSeed = Callable[[int], None]


def in_process(database: str, stack: ExitStack, crashes: Counter[tuple[str, str]]) -> RunSeed:
    """Schedules in this process, on one database after the other: each seed makes jobs of its own."""
    # No fsync is needed where nothing but the code under test crashes.
    memory = Path("/dev/shm")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
    url = database if database == "sqlite" else stack.enter_context(databases.postgres_database())
    faulty = FaultyDatabase(url, sqlite_file=folder / "faulty.db")
    stack.callback(faulty.close)
    faulty.migrate()
    return lambda seed: World(faulty, folder, seed, crashes).run()


def processes(database: str, stack: ExitStack, crashes: Counter[tuple[str, str]]) -> RunSeed:
    """Schedules with real servers and job processes."""
    from crash.live import LiveWorld

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    url = database if database == "sqlite" else stack.enter_context(databases.postgres_database())
    world = stack.enter_context(LiveWorld(url, folder, crashes))
    return world.run


def cancels(database: str, stack: ExitStack, _crashes: Counter[tuple[str, str]]) -> RunSeed:
    """Jobs that are cancelled at any moment of their lives."""
    from crash.live import LiveWorld

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    url = database if database == "sqlite" else stack.enter_context(databases.postgres_database())
    world = stack.enter_context(LiveWorld(url, folder, Counter()))

    def tell() -> None:
        seconds = sorted(world.cancel_seconds)
        if seconds:
            p99 = seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
            median = statistics.median(seconds)
            figures = f"median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, at most {seconds[-1] * 1000:.0f} ms"
            print(f"  from a cancel's answer to no process, {len(seconds)} times: {figures}")

    stack.callback(tell)
    return world.race


LEVELS = {IN_PROCESS: in_process, PROCESSES: processes, CANCELS: cancels}


def next_seed(level: str, database: str) -> int:
    """The first seed that no earlier run counted."""
    lines = [json.loads(line) for line in LEDGER.read_text().splitlines()] if LEDGER.exists() else []
    same = [
        line
        for line in lines
        if line.get("benchmark") == "crash" and (line["level"], line["database"]) == (level, database)
    ]
    return max((line["last_seed"] + 1 for line in same), default=0)


def run(level: str, database: str, first: int, count: int) -> tuple[int, dict[int, str]]:
    """Run `count` schedules from the seed `first` on. Returns how many were run, and the violations by seed."""
    violations: dict[int, str] = {}
    crashes: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    num_run = 0
    stack = ExitStack()
    try:
        run_seed = LEVELS[level](database, stack, crashes)
        for seed in range(first, first + count):
            try:
                run_seed(seed)
            except Exception as error:
                violations[seed] = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
                # Whatever it left behind is no business of the next one.
                stack.close()
                run_seed = LEVELS[level](database, stack, crashes)
            num_run += 1
            if num_run % 50 == 0:
                rate = num_run / (time.monotonic() - started)
                print(
                    f"{level} {database}: {num_run} of {count}, {len(violations)} violations, {rate:.1f}/s", flush=True
                )
    except KeyboardInterrupt:
        print("Ended; the next run goes on from here.")
    finally:
        stack.close()
    for (name, where), number in sorted(crashes.items()):
        print(f"  {name:<28}{where:<14}{number:>7}")
    return num_run, violations


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell has its background jobs ignore Ctrl-C
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("--level", choices=LEVELS, default=IN_PROCESS)
    parser.add_argument("--database", choices=["sqlite", "postgresql"])
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="run this one alone; the ledger is left as it is")
    arguments = parser.parse_args()
    names = [arguments.database] if arguments.database else list(databases.KINDS)
    num_violations = 0
    ran = tree()
    for database in names:
        started = time.monotonic()
        if arguments.seed is not None:
            _, violations = run(arguments.level, database, arguments.seed, 1)
        else:
            first = next_seed(arguments.level, database)
            num_run, violations = run(arguments.level, database, first, arguments.schedules)
            if num_run:
                seconds = time.monotonic() - started
                note(arguments.level, database, first, num_run, violations, seconds, tree=ran)
        num_violations += len(violations)
    print(f"{num_violations} violations")
    return 1 if num_violations else 0


def tree() -> str:
    """The commit that is run, `-dirty` where files differ from it; the ledger aside, which every run changes."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    is_dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/ledger.jsonl") != ""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + "-dirty" * is_dirty


def note(
    level: str, database: str, first: int, num_run: int, violations: dict[int, str], seconds: float, *, tree: str
) -> None:
    line = {
        "benchmark": "crash",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/crash.py", *sys.argv[1:]]),
        "tree": tree,
        "level": level,
        "database": database,
        "schedules": num_run,
        "first_seed": first,
        "last_seed": first + num_run - 1,
        "violations": violations,
        "seconds": round(seconds, 1),
    }
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())

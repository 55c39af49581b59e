"""Fuzzing of the contract by schemathesis, run after run with new seeds, each on a server of its own, until the time is up.
What was found is shown, and each run is a line of `ledger.jsonl`: with the lines of earlier days it goes on where those
ended (`make fuzz`).

The first run goes through all phases. Each later one makes requests for the operations that have had the fewest.

    PYTHONPATH=tests:tests/acceptance python benchmarks/fuzz.py [--minutes M] [--max-examples N] [--fewest-only] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from contract.fuzzing.run import fuzz
from contract.fuzzing.world import served
from contract.watch import CONTRACT
from tiny_models import make_llama

OPERATIONS = [f"{method.upper()} {path}" for path, item in CONTRACT["paths"].items() for method in item]
LEDGER = Path(__file__).with_name("ledger.jsonl")


def earlier() -> list[dict[str, object]]:
    """The ledger's lines of this benchmark."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    return [line for line in map(json.loads, lines) if line["benchmark"] == "fuzz"]


def totals() -> Counter[str]:
    """Operation → its cases in all runs without a violation."""
    total: Counter[str] = Counter()
    for line in earlier():
        if not line["num_violations"]:
            total.update(line["cases"])  # type: ignore[arg-type]
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--max-examples", type=int, default=200, help="for each operation, in a run")
    parser.add_argument("--fewest-only", action="store_true", help="leave out the run through all phases")
    parser.add_argument("--seed", type=int, help="of the first run; by default the one after the ledger's last")
    options = parser.parse_args()
    seed: int = (
        options.seed if options.seed is not None else max((int(str(e["seed"])) for e in earlier()), default=0) + 1
    )
    until = time.monotonic() + options.minutes * 60
    num_violations, first = 0, not options.fewest_only
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_llama(Path(folder) / "tiny")
        while (left := until - time.monotonic()) > 0:
            run = Path(folder) / f"run-{seed}"
            run.mkdir()
            least = sorted(OPERATIONS, key=totals().__getitem__)[:5]
            chosen = {} if first else {"operations": least, "phases": "fuzzing"}
            first = False
            with served(run, tiny) as server:
                outcome = fuzz(
                    server,
                    run,
                    seed=seed,
                    max_examples=options.max_examples,
                    timeout_seconds=left + 600,
                    **chosen,
                )
                num_bugs = server.log.count("met a bug")
            num_violations += bool(outcome.violations)
            if outcome.violations:
                print(outcome.violations)
            entry = {
                "benchmark": "fuzz",
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": f"benchmarks/fuzz.py --max-examples {options.max_examples}",
                "seed": seed,
                "num_cases": sum(outcome.cases.values()),
                "cases": dict(sorted(outcome.cases.items())),
                "statuses": dict(sorted(outcome.statuses.items())),
                "num_violations": outcome.num_violations,
                "num_server_errors": num_bugs,
            }
            with LEDGER.open("a") as ledger:
                ledger.write(json.dumps(entry) + "\n")
            print(f"seed {seed}: {entry['num_cases']} cases, {outcome.num_violations} violations, {outcome.statuses}")
            seed += 1
    print("cases without a violation, all runs of the ledger:")
    for operation, count in sorted(totals().items(), key=lambda item: item[1]):
        print(f"{count:>8}  {operation}")
    return 1 if num_violations else 0


if __name__ == "__main__":
    sys.exit(main())

"""`kill -9` at random moments in appends and ingests, on real processes, and afterwards a look at every row: none that was
acknowledged may be lost, none doubled, no call there by half. What was found is a line of `ledger.jsonl` (`make crash`).

    PYTHONPATH=tests:tests/acceptance python benchmarks/crash_datasets.py [--kills N] [--seed S]

A seed gives the same calls and the same moments; what the machine makes of them differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from live_server import LiveServer

LEDGER = Path(__file__).with_name("ledger.jsonl")

NUM_CLIENTS = 4
NUM_SOURCE_ROWS = 40_000


@dataclass
class Call:
    """One call of append-rows: `client`, `call` and `row` stand in each of its rows."""

    dataset_id: str
    client: int
    number: int
    num_rows: int
    key: str | None
    is_acknowledged: bool = False

    @property
    def body(self) -> bytes:
        rows = [{"client": self.client, "call": self.number, "row": row} for row in range(self.num_rows)]
        return json.dumps({"rows": rows}).encode()

    def send(self, http: httpx.Client) -> None:
        headers = {"Content-Type": "application/json"} | ({} if self.key is None else {"Idempotency-Key": self.key})
        answer = http.post(f"/v1beta/datasetio/append-rows/{self.dataset_id}", content=self.body, headers=headers)
        assert answer.status_code == 200, answer.text
        self.is_acknowledged = True


@dataclass
class Findings:
    """What was counted over all kills."""

    num_kills: Counter[str] = field(default_factory=Counter)
    num_calls: int = 0
    num_rows: int = 0
    num_unanswered: int = 0
    num_repeated: int = 0
    num_ingests: int = 0
    num_ingests_resumed: int = 0
    num_lost: int = 0
    num_doubled: int = 0
    num_half_calls: int = 0
    num_wrong_counts: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.num_lost or self.num_doubled or self.num_half_calls or self.num_wrong_counts)


def client(url: str, dataset_id: str, number: int, seed: str, calls: list[Call], stop: threading.Event) -> None:
    """Append until the server is gone."""
    rng = random.Random(seed)
    with httpx.Client(base_url=url, timeout=60) as http:
        while not stop.is_set():
            num_rows = rng.choice([1, 1, 1, 3, 50, 400])
            key = f"{seed}-{len(calls)}" if rng.random() < 0.5 else None
            calls.append(Call(dataset_id, number, len(calls), num_rows, key))
            try:
                calls[-1].send(http)
            except httpx.TransportError:
                return


def kill(server: LiveServer, rng: random.Random, findings: Findings) -> None:
    """`kill -9` of the server, or of the process that reads a source in."""
    jobs = list(server.processes_of_job())
    if jobs and rng.random() < 0.4:
        jobs[0].kill()
        findings.num_kills["job"] += 1
    else:
        server.kill()
        server.start()
        findings.num_kills["server"] += 1


def one_kill(server: LiveServer, source: Path, seed: str, findings: Findings) -> None:
    rng = random.Random(seed)
    calls_id, ingest_id = f"calls-{seed}", f"ingest-{seed}"
    _register(server, calls_id, {"type": "rows", "rows": []})
    stop = threading.Event()
    calls: list[list[Call]] = [[] for _ in range(NUM_CLIENTS)]
    threads = [
        threading.Thread(
            target=client,
            args=(server.url, ingest_id if number == 0 else calls_id, number, f"{seed}-{number}", calls[number], stop),
        )
        for number in range(NUM_CLIENTS)
    ]
    _register(server, ingest_id, {"type": "uri", "uri": source.as_uri()})
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.02, 1.2))
    kill(server, rng, findings)
    stop.set()
    for thread in threads:
        thread.join(60)
    for call in (call for mine in calls for call in mine if not call.is_acknowledged):
        findings.num_unanswered += 1
        if call.key is not None:
            for _ in range(2):  # what clients do: again with the same key, until there is an answer
                call.send(server.http)
            findings.num_repeated += 1
    deadline = time.monotonic() + 120
    while (metadata := server.call("GET", f"/v1beta/datasets/{ingest_id}")["metadata"])["state"] == "reading":
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    assert metadata["state"] == "ready", metadata
    findings.num_ingests += 1
    job = server.call("GET", f"/v1alpha/jobs/{metadata['ingest_job_id']}")
    findings.num_ingests_resumed += job["attempt"] > 1
    check(server, calls_id, [call for mine in calls[1:] for call in mine], [], findings)
    check(server, ingest_id, calls[0], source.read_text().splitlines(), findings)


def check(server: LiveServer, dataset_id: str, calls: list[Call], source: list[str], findings: Findings) -> None:
    """Compare every row of a dataset with what was sent."""
    texts = _read(server, dataset_id)
    metadata = server.call("GET", f"/v1beta/datasets/{dataset_id}")["metadata"]
    if (metadata["num_rows"], metadata["num_bytes"]) != (len(texts), sum(map(len, texts))):
        findings.num_wrong_counts += 1
    findings.num_calls += sum(call.is_acknowledged for call in calls)
    findings.num_rows += len(texts)
    from_source = [text for text in texts if '"client"' not in text]
    if from_source != source:
        there = Counter(from_source)
        findings.num_lost += sum((Counter(source) - there).values())
        findings.num_doubled += sum((there - Counter(source)).values()) or 1
    places: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Where a source's rows come between two lots, an appended call still stands in one piece.
    for place, text in enumerate(texts):
        if '"client"' in text:
            row = json.loads(text)
            places.setdefault((row["client"], row["call"]), []).append((place, row["row"]))
    for call in calls:
        found = places.pop((call.client, call.number), [])
        if not found:
            findings.num_lost += call.num_rows if call.is_acknowledged else 0
            continue
        rows = [row for _, row in found]
        if len(found) > call.num_rows:
            findings.num_doubled += len(found) - call.num_rows
        elif rows != list(range(call.num_rows)) or found[-1][0] - found[0][0] != call.num_rows - 1:
            findings.num_half_calls += 1
    assert not places, "rows that nobody sent"


def _register(server: LiveServer, dataset_id: str, source: dict[str, Any]) -> None:
    body = {"dataset_id": dataset_id, "purpose": "eval/question-answer", "source": source}
    server.call("POST", "/v1beta/datasets", body)


def _read(server: LiveServer, dataset_id: str) -> list[str]:
    answer = server.http.get(f"/v1beta/datasetio/iterrows/{dataset_id}", params={"limit": -1})
    assert answer.status_code == 200, answer.text
    data = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])["data"]
    return [str(raw, "utf-8") for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, help="by default the one after the ledger's last")
    options = parser.parse_args()
    lines = map(json.loads, LEDGER.read_text().splitlines()) if LEDGER.exists() else ()
    earlier = [line["seed"] for line in lines if line["benchmark"] == "crash-datasets"]
    seed: int = options.seed if options.seed is not None else max(earlier, default=0) + 1
    findings = Findings()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        source = folder / "source.jsonl"
        # Large enough for a job.
        source.write_text("".join(f'{{"question":"{n}{"?" * 250}","answer":"{n}"}}\n' for n in range(NUM_SOURCE_ROWS)))
        with LiveServer(folder, dataset_roots=[str(folder)]) as server:
            for number in range(options.kills):
                one_kill(server, source, f"{seed}-{number}", findings)
                if not findings.is_clean:
                    print(f"kill {number} of seed {seed}: {findings}")
                    break
                for dataset_id in (f"calls-{seed}-{number}", f"ingest-{seed}-{number}"):
                    server.call("DELETE", f"/v1beta/datasets/{dataset_id}")
                if number % 10 == 9:
                    print(f"{number + 1} kills: {findings}", flush=True)
        with sqlite3.connect(folder / "data" / "paddock.db") as database:
            (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
    entry = {
        "benchmark": "crash-datasets",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"benchmarks/crash_datasets.py --kills {options.kills} --seed {seed}",
        "seed": seed,
        "num_kills": findings.num_kills.total(),
        "num_kills_of": dict(findings.num_kills),
        "num_acknowledged_calls": findings.num_calls,
        "num_rows_checked": findings.num_rows,
        "num_unanswered_calls": findings.num_unanswered,
        "num_repeated_by_key": findings.num_repeated,
        "num_ingests": findings.num_ingests,
        "num_ingests_resumed": findings.num_ingests_resumed,
        "num_lost_rows": findings.num_lost,
        "num_doubled_rows": findings.num_doubled,
        "num_half_calls": findings.num_half_calls,
        "num_wrong_counts": findings.num_wrong_counts,
        "integrity": integrity,
        "seconds": round(time.monotonic() - begun),
    }
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(entry) + "\n")
    print(json.dumps(entry, indent=2))
    return 0 if findings.is_clean and integrity == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())

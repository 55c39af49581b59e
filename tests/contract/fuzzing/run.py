"""One run of schemathesis over the contract, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.fuzzing.world import IDS
from live_server import LiveServer

CONTRACT = Path(__file__).parents[1] / "llama-stack-experimental.yaml"

_CONFIGURATION = """
hooks = {hooks}
color = false
suppress-health-check = ["all"]
[checks.positive_data_acceptance]
# The contract has no minimums and cannot say which ids there are: a refusal is an answer, if it names its place (`hooks`).
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "413", "429"]
[phases.coverage]
# The others are extensions on some paths: a DELETE here would take away what the next case asks for.
unexpected-methods = ["OPTIONS", "PATCH", "PUT", "TRACE"]
"""

# `hooks` looks at methods itself, for the contract does not know those of extensions; its one DELETE cancels a job,
# which stays.
_LEFT_OUT = "unsupported_method,allow_header_conformance,use_after_free"


@dataclass(frozen=True)
class Outcome:
    """What a run found: cases by operation, answers by status, and its report, empty if nothing is wrong."""

    cases: dict[str, int]
    statuses: dict[str, int]
    violations: str

    @property
    def num_violations(self) -> int:
        """How many different failures and errors the report tells of; a run that did not come to its end is one."""
        found = re.search(r"=+ (?:(\d+) failures?)?[, ]*(?:(\d+) errors?)?.* in [\d.]+s =+", self.violations)
        counted = sum(int(count) for count in found.groups() if count) if found else 0
        return max(counted, 1) if self.violations else 0


def fuzz(
    server: LiveServer,
    folder: Path,
    *,
    seed: int,
    max_examples: int,
    phases: str = "examples,coverage,fuzzing,stateful",
    operations: Sequence[str] = (),
    timeout_seconds: float,
) -> Outcome:
    """Send made-up requests to `server`: `max_examples` for each operation in the phase of fuzzing. `operations`, such as
    `GET /v1beta/datasets`, are all if none is named."""
    configuration, counts = folder / "schemathesis.toml", folder / f"counts-{seed}.json"
    configuration.write_text(_CONFIGURATION.format(hooks=json.dumps(str(Path(__file__).with_name("hooks.py")))))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run", str(CONTRACT)),
        *(
            "--url",
            server.url,
            "--checks",
            "all",
            "--exclude-checks",
            _LEFT_OUT,
            "--phases",
            phases,
            "--mode",
            "all",
            "--continue-on-failure",
        ),
        *("--max-examples", str(max_examples), "--seed", str(seed), "--request-timeout", "60", "--no-shrink"),
        *(part for operation in operations for part in ("--include-name", operation)),
    ]
    given = {"ids": IDS, "url": server.url, "counts": str(counts)}
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PADDOCK_FUZZ": json.dumps(given)},
        timeout=timeout_seconds,
        check=False,
    )
    counted = json.loads(counts.read_text()) if counts.exists() else {"cases": {}, "statuses": {}}
    return Outcome(counted["cases"], counted["statuses"], "" if run.returncode == 0 else run.stdout + run.stderr)

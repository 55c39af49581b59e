"""A short fuzzing of the contract with a fixed seed; `make fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path

from contract.fuzzing.run import fuzz
from contract.fuzzing.world import served
from contract.watch import CONTRACT


def test_made_up_requests_find_no_violation(tmp_path: Path, tiny_llama: Path) -> None:
    with served(tmp_path, tiny_llama) as server:
        outcome = fuzz(server, tmp_path, seed=1, max_examples=10, timeout_seconds=240)
        assert "met a bug" not in server.log
    assert outcome.violations == ""
    operations = {f"{method.upper()} {path}" for path, item in CONTRACT["paths"].items() for method in item}
    assert set(outcome.cases) == operations
    assert sum(outcome.cases.values()) > 1000
    assert {"200", "400", "404", "409"} <= set(outcome.statuses)

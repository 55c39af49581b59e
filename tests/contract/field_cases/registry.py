"""A case sends its field with two values and asserts the different effect: what a backend received, what was computed, what
was written. A status code alone proves nothing.

    @field("rerank max_num_results integer")
    def max_num_results(lab: Lab) -> None: ...

A case that serves several operations takes the operation's name: `@field("…", operation="run_eval")`, once for each.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

LINES = tuple((Path(__file__).parents[1] / "request-fields.txt").read_text().splitlines())

CASES: dict[str, Callable[..., None]] = {}
"""Line → its case, called with the laboratory that `test_fields.py` builds."""

OPEN: dict[str, str] = {}
"""Line → why its case fails as yet. The case stands and is expected to fail, strictly: who makes the field real must
take its line out."""

_NO_GPU = "It spares a GPU's memory, and the tests have none; the workers that it is for are shown on a CPU."
REFUSED: dict[str, str] = {
    f"{operation} training_config.efficiency_config.fsdp_cpu_offload boolean": _NO_GPU
    for operation in ("preference_optimize", "supervised_fine_tune")
}
"""Line → why it rests on refusal alone: neither this machine nor any model here can do it. At most 15."""

Case = TypeVar("Case", bound=Callable[..., None])


def field(line: str, **arguments: Any) -> Callable[[Case], Case]:
    """The decorated function is the case of this line; `arguments` are passed to it."""
    assert line in LINES, f"request-fields.txt has no such line: {line}"
    assert line not in CASES, f"two cases for one line: {line}"

    def register(case: Case) -> Case:
        CASES[line] = partial(case, **arguments) if arguments else case
        return case

    return register


def load_cases() -> None:
    """Fill `CASES`: each module beside this one registers its own as it is imported."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{package}.{module.name}")

"""Python runs this first in every process of a crash test (its folder stands in PYTHONPATH): it makes the durable write
that the plan names kill or stop the process that writes.

The plan is a file, so that it can change while a server lives; whoever takes it renames it, and so it happens once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _install(plan_file: Path) -> None:
    from paddock.storage.database import Database

    plain_write = Database.write
    role = "server" if "serve" in sys.argv else "job"

    def writer() -> str:
        frame = sys._getframe(1)
        while True:
            name = (Path(frame.f_code.co_filename).stem, frame.f_code.co_name)
            if name[0] not in ("contextlib", "sitecustomize") and name != ("progress", "write"):
                return ".".join(name)
            assert frame.f_back is not None
            frame = frame.f_back

    def taken() -> dict[str, Any] | None:
        try:
            plan: dict[str, Any] = json.loads(plan_file.read_text())
            if (plan["role"], plan["write"]) != (role, writer()):
                return None
            plan_file.rename(plan_file.with_suffix(".done"))
        except (OSError, ValueError):
            return None
        return plan

    @contextmanager
    def write(self: Any) -> Iterator[Any]:
        plan = taken()
        where = None if plan is None else plan["where"]

        def strike() -> None:
            assert plan is not None
            os.kill(os.getpid(), plan["signal"])

        if where == "before":
            strike()
        with plain_write(self) as connection:
            if where == "inside":
                strike()
            yield connection
            if where == "uncommitted":
                strike()
        if where == "after":
            strike()

    Database.write = write  # type: ignore[method-assign]


if "CRASH_PLAN" in os.environ and {"serve", "run-job", "fork-jobs"} & set(sys.argv):
    _install(Path(os.environ["CRASH_PLAN"]))

"""Python runs this first in every process of a test without a disk of its own (its folder stands in PYTHONPATH): as long as
the file is there that FULL_WHILE names, the database gets no page more. SQLite itself says so, as it does on a full disk.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_MOST_PAGES = 4294967294  # SQLite's own bound


def _install(mark: Path) -> None:
    from paddock.storage import database

    plain_begin = database._begin

    def begin(connection: Any) -> None:
        # A bound below the number of pages that there are is taken as that number.
        connection.exec_driver_sql(f"PRAGMA max_page_count={1 if mark.exists() else _MOST_PAGES}")
        plain_begin(connection)

    database._begin = begin


if "FULL_WHILE" in os.environ and {"serve", "run-job", "fork-jobs"} & set(sys.argv):
    _install(Path(os.environ["FULL_WHILE"]))

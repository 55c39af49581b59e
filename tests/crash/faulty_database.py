"""A database whose durable writes crash where a schedule says, and whose clock is the schedule's.

A crash is raised through the code under test as a `Crash`, which no `except Exception` holds: to the database it is a
process that is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from paddock.storage.database import Database

WHERES = ("before", "inside", "uncommitted", "after")
"""Before the transaction, before one of its statements, before its commit, and after it, unknown to whoever wrote."""


class Crash(BaseException):
    """The process that was writing is gone."""


def writer() -> str:
    """Which durable write is under way: the module and function that began it."""
    frame = sys._getframe(1)
    while True:
        code = frame.f_code
        module = Path(code.co_filename).stem
        if module not in ("contextlib", "faulty_database") and (module, code.co_name) != ("progress", "write"):
            return f"{module}.{code.co_name}"
        assert frame.f_back is not None
        frame = frame.f_back


class FaultyDatabase(Database):
    """`choose(name)` says where the write `name` crashes, or None; `clock` is seconds since 1970."""

    def __init__(self, url: str, *, sqlite_file: Path | None = None) -> None:
        super().__init__(url, sqlite_file=sqlite_file)
        self.clock = 1e9
        self.choose: Callable[[str], tuple[str, int] | None] = lambda _name: None
        self.num_commits = 0
        self._num_statements_left: int | None = None
        sa.event.listen(self._engine, "before_cursor_execute", self._count_statement)
        if not self.is_sqlite:
            # The database itself does not crash here: its fsyncs would only take time.
            sa.event.listen(self._engine, "connect", _commit_fast)

    def now(self) -> sa.ColumnElement[float]:
        return sa.literal(self.clock, sa.Float)

    def _count_statement(self, *_: Any) -> None:
        if self._num_statements_left is None:
            return
        if self._num_statements_left == 0:
            self._num_statements_left = None
            raise Crash
        self._num_statements_left -= 1

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        where, num_statements = self.choose(writer()) or (None, 0)
        if where == "before":
            raise Crash
        try:
            with super().write() as connection:
                if where == "inside":
                    self._num_statements_left = num_statements
                yield connection
                self._num_statements_left = None
                # Fewer statements than that: it is the commit that does not come.
                if where in ("inside", "uncommitted"):
                    raise Crash
        finally:
            self._num_statements_left = None
        self.num_commits += 1
        if where == "after":
            raise Crash


def _commit_fast(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()

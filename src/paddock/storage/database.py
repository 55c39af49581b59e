"""The database: SQLite in the data directory, or PostgreSQL by URL. One engine a process, two kinds of transaction.

SQLite has one writer at a time: `write()` takes a lock in this process and `BEGIN IMMEDIATE` in the file, so that a
transaction never fails half way for having read before it wrote. Every connection runs with `synchronous=FULL`: what
was acknowledged survives a loss of power.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError

from paddock.errors import InvalidRequestError, NoSpaceError

_BUSY_TIMEOUT_SECONDS = 30
_CACHE_KIBIBYTES = 8192
_POSTGRES_DISK_FULL = "53100"

HEAD_REVISION = "0005"
"""The newest migration, named here so that a start need not import Alembic; a test holds it to `migrations/`."""


class Database:
    """Transactions on the one database of this server."""

    def __init__(self, url: str, *, sqlite_file: Path | None = None) -> None:
        """`url` is `sqlite` (then `sqlite_file` says where) or `postgresql://…`."""
        self.url = url
        self.sqlite_file = sqlite_file
        self.is_sqlite = url == "sqlite"
        if self.is_sqlite:
            assert sqlite_file is not None
            self._engine = sa.create_engine(f"sqlite:///{sqlite_file}", connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})
            event.listen(self._engine, "connect", _set_pragmas)
            event.listen(self._engine, "begin", _begin)
        else:
            scheme, _, rest = url.partition("://")
            assert scheme in ("postgresql", "postgres"), scheme
            self._engine = sa.create_engine(f"postgresql+psycopg://{rest}", pool_pre_ping=True)
            event.listen(self._engine, "connect", _commit_for_good)
        self._writing = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: it sees one state of the database and blocks nobody."""
        with self._engine.connect() as plain:
            # SQLite's transactions see one state by themselves.
            connection = plain if self.is_sqlite else plain.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; durable once the block is left without an exception."""
        try:
            if not self.is_sqlite:
                with self._engine.begin() as connection:
                    yield connection
                return
            with self._writing, self._engine.connect() as plain:
                connection = plain.execution_options(paddock_writes=True)
                with connection.begin():
                    yield connection
        except OperationalError as error:
            is_sqlite_full = isinstance(error.orig, sqlite3.OperationalError) and "full" in str(error.orig)
            if is_sqlite_full or getattr(error.orig, "sqlstate", None) == _POSTGRES_DISK_FULL:
                raise NoSpaceError("The disk is full: nothing of this request was stored.") from error
            raise

    def now(self) -> sa.ColumnElement[float]:
        """The database's own clock, as seconds since 1970 (UTC): leases of several machines are told by one clock."""
        if self.is_sqlite:
            return sa.cast((sa.func.julianday("now") - 2440587.5) * 86400.0, sa.Float)
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)

    def check_revision(self) -> None:
        """Raise `InvalidRequestError` unless the tables have this version's shape."""
        current = self._revision()
        if current != HEAD_REVISION:
            raise InvalidRequestError(
                f"The database was made by another version of Paddock: its tables are at revision {current}, and this "
                f"version reads {HEAD_REVISION}. The start of a server brings older ones up to it."
            )

    def _revision(self) -> str | None:
        """Which migration the tables are at; None where there are none yet. Four digits, so that they compare as text."""
        try:
            with self.read() as connection:
                if not sa.inspect(connection).has_table("alembic_version"):
                    return None
                found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
                return found
        except DatabaseError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: DatabaseError) -> InvalidRequestError:
        if not self.is_sqlite:
            name, mend = "PostgreSQL", "Check `database_url`, and that its server runs."
        elif isinstance(error, OperationalError):
            name, mend = str(self.sqlite_file), "This user must be able to write to it, on a disk with room."
        else:
            name, mend = (
                str(self.sqlite_file),
                "Start from a copy that `paddock backup` made, or with another --data-dir.",
            )
        said = str(error.orig).partition("\n")[0]
        return InvalidRequestError(f"The database ({name}) cannot be used: {said}. {mend}")

    def migrate(self) -> None:
        """Bring the tables to this version's shape. Raises `InvalidRequestError`, for whoever starts a server, if the
        database cannot be used."""
        current = self._revision()
        if current == HEAD_REVISION:
            return
        if current is not None and current > HEAD_REVISION:
            raise InvalidRequestError(
                f"The database was made by a newer Paddock: its tables are at revision {current}, and this version knows "
                f"them up to {HEAD_REVISION}. Start the newer version, or name another --data-dir or `database_url`."
            )
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._references_unchecked(), self.write() as connection:
            # Two servers that start at once: the second waits, then finds nothing to do. SQLite's writes do so anyway.
            if not self.is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7231946022)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if self.is_sqlite:
                assert not connection.execute(sa.text("PRAGMA foreign_key_check")).all()

    @contextmanager
    def _references_unchecked(self) -> Iterator[None]:
        """SQLite changes a table by making it anew; dropping the old one would take what refers to it along."""
        if not self.is_sqlite:
            yield
            return
        event.listen(self._engine, "connect", _leave_references)
        self._engine.dispose()
        try:
            yield
        finally:
            event.remove(self._engine, "connect", _leave_references)
            self._engine.dispose()

    def close(self) -> None:
        self._engine.dispose()


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    # Python's driver would open transactions by itself, and only for some statements; `_begin` does it for all.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
    cursor.close()


def _commit_for_good(connection: Any, _record: object) -> None:
    # Whatever the server's default is: what was acknowledged survives a loss of power.
    connection.execute("SET SESSION synchronous_commit = on")
    connection.commit()


def _leave_references(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=OFF")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("paddock_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

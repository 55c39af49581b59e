"""The databases that tests run on: a SQLite file each, and, where `PADDOCK_TEST_POSTGRES_URL` names a server whose user may
create databases, a PostgreSQL database each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from paddock.storage.database import Database

POSTGRES_URL = os.environ.get("PADDOCK_TEST_POSTGRES_URL", "")
KINDS = ("sqlite", "postgresql") if POSTGRES_URL else ("sqlite",)


@contextmanager
def postgres_database(*, template: str | None = None) -> Iterator[str]:
    """The URL of a database that is dropped afterwards; `template` is the URL of one to copy."""
    name = f"paddock_test_{uuid.uuid4().hex}"
    copied = "" if template is None else f' TEMPLATE "{template.rpartition("/")[2]}"'
    with psycopg.connect(POSTGRES_URL, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"{copied}')
        try:
            yield f"{POSTGRES_URL.rpartition('/')[0]}/{name}"
        finally:
            # A process that a test killed may not have left yet.
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def migrated_postgres() -> Iterator[str]:
    """A template with all tables: copying one takes a tenth of the time that migrating does."""
    with postgres_database() as url:
        database = Database(url)
        database.migrate()
        database.close()
        yield url

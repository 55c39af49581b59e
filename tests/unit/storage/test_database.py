from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from paddock.storage import database as database_module
from paddock.storage import tables
from paddock.storage.database import HEAD_REVISION, Database


def test_every_connection_is_durable(database: Database) -> None:
    # A kill cannot show a missing fsync, so the settings are asserted: 2 is FULL.
    for transaction in (database.write, database.read):
        with transaction() as connection:
            if not database.is_sqlite:
                assert connection.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
                continue
            assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
            assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1


def test_tables_are_what_the_migrations_make(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_the_head_revision_is_named_right() -> None:
    folder = Path(database_module.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD_REVISION


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    insert = sa.insert(tables.idempotency_keys).values(
        scope="s", key="k", body_digest="", answer_json="", created_at=0.0
    )
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute(insert)
        raise RuntimeError
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.idempotency_keys)).scalar() == 0


def test_many_writers_wait_for_each_other(database: Database) -> None:
    """Read, then write, in many threads. On SQLite with deferred transactions some would fail as busy; on PostgreSQL a
    row that is read to be written is locked, as the stores do it."""
    count = sa.select(tables.idempotency_keys.c.answer_json).with_for_update()
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.idempotency_keys).values(
                scope="s", key="k", body_digest="", answer_json="0", created_at=0.0
            )
        )

    def add_one() -> None:
        for _ in range(10):
            with database.write() as connection:
                before = int(connection.execute(count).scalar_one())
                connection.execute(sa.update(tables.idempotency_keys).values(answer_json=str(before + 1)))

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(count).scalar_one() == "80"


def test_the_database_has_a_clock(database: Database) -> None:
    import time

    with database.read() as connection:
        now = connection.execute(sa.select(database.now())).scalar_one()
    assert abs(now - time.time()) < 5

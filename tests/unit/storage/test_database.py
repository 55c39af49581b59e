from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from paddock.errors import InvalidRequestError, NoSpaceError
from paddock.storage import database as database_module
from paddock.storage import tables
from paddock.storage.database import HEAD_REVISION, Database

MIGRATIONS = Path(database_module.__file__).parent / "migrations"


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


def _constraints(connection: sa.Connection) -> dict[str, list[str]]:
    """What Alembic does not compare: checks by table, and triggers."""
    inspector = sa.inspect(connection)
    checks = {
        table: sorted(f"{check['name']}: {check['sqltext']}" for check in inspector.get_check_constraints(table))
        for table in tables.metadata.tables
    }
    partial = (
        "SELECT sql FROM sqlite_master WHERE type = 'trigger' OR sql LIKE 'CREATE%INDEX%WHERE%'"
        if connection.dialect.name == "sqlite"
        else "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal "
        "UNION SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace "
        "UNION SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%WHERE%'"
    )
    return checks | {"": sorted(connection.execute(sa.text(partial)).scalars())}


def test_constraints_are_what_the_migrations_make(open_empty: Callable[[], Database]) -> None:
    created, migrated = open_empty(), open_empty()
    migrated.migrate()
    with created.write() as connection:
        tables.metadata.create_all(connection)
    with created.read() as one, migrated.read() as other:
        ours = _constraints(one)
        assert ours == _constraints(other)
        assert len(ours["jobs"]) >= 10
        assert len(ours[""]) >= 4


def test_migrating_keeps_what_there_is(open_empty: Callable[[], Database]) -> None:
    """From the first revision with rows in the tables: SQLite makes `jobs` anew, which other tables refer to."""
    database = open_empty()
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for text in (
            "INSERT INTO jobs (job_id, kind, request_json, status, attempt, num_lost, progress_done, created_at,"
            " started_at, ended_at, error) VALUES ('a', 'eval', '{}', 'failed', 1, 0, 0, 1.0, 2.0, 3.0, 'why')",
            "INSERT INTO job_events (job_id, attempt, at, event) VALUES ('a', 0, 1.0, 'submitted')",
            "INSERT INTO generations (job_id, row_index, generation_json, failed) VALUES ('a', 0, '{}', false)",
        ):
            connection.execute(sa.text(text))
    database.migrate()
    with database.read() as connection:
        row = connection.execute(sa.select(tables.jobs)).one()
        assert (row.error, row.retryable, row.num_retries, row.started_at) == ("why", False, 0, 2.0)
        for table in (tables.job_events, tables.generations):
            assert connection.execute(sa.select(table.c.job_id)).scalars().all() == ["a"]
        if database.is_sqlite:
            assert connection.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1


def test_two_servers_that_start_at_once(open_empty: Callable[[], Database]) -> None:
    database = open_empty()
    code = "import sys; from pathlib import Path; from paddock.storage.database import Database\n"
    code += "Database(sys.argv[1], sqlite_file=Path(sys.argv[2])).migrate()"
    command_line = [sys.executable, "-c", code, database.url, str(database.sqlite_file)]
    processes = [subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD_REVISION]


def test_the_head_revision_is_named_right() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD_REVISION


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


def test_a_full_disk_is_said_in_words_and_leaves_nothing(database: Database) -> None:
    """SQLite is told how many pages there are; PostgreSQL raises what it would raise."""
    large = sa.insert(tables.idempotency_keys).values(
        scope="s", key="k", body_digest="", answer_json="x" * 10_000_000, created_at=0.0
    )
    with pytest.raises(NoSpaceError, match="disk is full"), database.write() as connection:
        if database.is_sqlite:
            num_pages = connection.execute(sa.text("PRAGMA page_count")).scalar_one()
            connection.execute(sa.text(f"PRAGMA max_page_count={num_pages + 10}"))
            connection.execute(large)
        else:
            connection.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$"))
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.idempotency_keys)).scalar() == 0


def _set_revision(database: Database, revision: str) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    _set_revision(database, "9999")
    with pytest.raises(InvalidRequestError, match="newer Paddock: its tables are at revision 9999"):
        database.migrate()


def test_who_only_reads_refuses_tables_of_another_shape(database: Database) -> None:
    database.check_revision()
    _set_revision(database, "0001")
    with pytest.raises(InvalidRequestError, match="revision 0001, and this version reads"):
        database.check_revision()


def test_a_database_that_cannot_be_used_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "paddock.db").write_bytes(b"no database" * 1000)
    for url, said, mend in (
        ("sqlite", "not a database", "paddock backup"),
        ("postgresql://nobody@127.0.0.1:9/none", "connection", "`database_url`"),
    ):
        database = Database(url, sqlite_file=tmp_path / "paddock.db")
        with pytest.raises(InvalidRequestError) as caught:
            database.migrate()
        database.close()
        assert said in caught.value.detail
        assert mend in caught.value.detail
        assert "\n" not in caught.value.detail
    database = Database("sqlite", sqlite_file=tmp_path / "nowhere" / "paddock.db")
    with pytest.raises(InvalidRequestError, match=r"unable to open database file\. This user must be able to write"):
        database.check_revision()

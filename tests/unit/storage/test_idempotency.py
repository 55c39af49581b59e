from __future__ import annotations

import pytest
import sqlalchemy as sa

from paddock.errors import ConflictError
from paddock.storage import idempotency
from paddock.storage.database import Database
from paddock.storage.tables import idempotency_keys


def test_the_same_key_answers_the_same(database: Database) -> None:
    with database.write() as connection:
        assert idempotency.recall(connection, scope="s", key="k", body=b"1") is None
        idempotency.remember(connection, scope="s", key="k", body=b"1", answer='{"a":1}')
    with database.write() as connection:
        assert idempotency.recall(connection, scope="s", key="k", body=b"1") == '{"a":1}'
        assert idempotency.recall(connection, scope="other", key="k", body=b"2") is None
        with pytest.raises(ConflictError):
            idempotency.recall(connection, scope="s", key="k", body=b"2")


def test_keys_are_forgotten_after_a_day(database: Database) -> None:
    with database.write() as connection:
        idempotency.remember(connection, scope="s", key="k", body=b"1", answer="1")
        connection.execute(sa.update(idempotency_keys).values(created_at=idempotency_keys.c.created_at - 25 * 3600))
        assert idempotency.recall(connection, scope="s", key="k", body=b"2") is None

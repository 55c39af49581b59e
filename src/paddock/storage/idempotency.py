"""`Idempotency-Key`: the same key again answers the same and does nothing again; with another body it is a conflict.

The key is stored in the transaction that does the work, so the two cannot come apart in a crash.
"""

from __future__ import annotations

import hashlib
import time

import sqlalchemy as sa

from paddock.errors import ConflictError
from paddock.storage.tables import idempotency_keys

KEPT_SECONDS = 24 * 3600


def recall(connection: sa.Connection, *, scope: str, key: str, body: bytes) -> str | None:
    """The JSON text answered to this key in `scope` (route and key holder), or None if it is new.

    Raises `ConflictError` if the key came with another body."""
    connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.created_at < time.time() - KEPT_SECONDS))
    found = connection.execute(
        sa.select(idempotency_keys.c.body_digest, idempotency_keys.c.answer_json).where(
            idempotency_keys.c.scope == scope, idempotency_keys.c.key == key
        )
    ).one_or_none()
    if found is None:
        return None
    if found.body_digest != _digest(body):
        raise ConflictError("This Idempotency-Key was used with another body. Send the same body, or a new key.")
    answer: str = found.answer_json
    return answer


def remember(connection: sa.Connection, *, scope: str, key: str, body: bytes, answer: str) -> None:
    """Store the JSON text that a repetition of `key` will be answered with."""
    connection.execute(
        sa.insert(idempotency_keys).values(
            scope=scope, key=key, body_digest=_digest(body), answer_json=answer, created_at=time.time()
        )
    )


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

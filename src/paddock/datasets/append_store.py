"""Appends of many clients in one transaction: one writer thread a process, and an answer only when rows are durable.

While one transaction is written the next calls gather, and go in together: a durable commit costs the same for one call
and for sixteen. Each call is whole or not there, and none fails for another's sake.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import sqlalchemy as sa

from paddock.datasets import row_store
from paddock.datasets.tally import Tally
from paddock.errors import ConflictError, NoSpaceError, NotFoundError
from paddock.storage import idempotency
from paddock.storage.database import Database
from paddock.storage.tables import datasets

log = logging.getLogger("paddock.datasets")

_GROUP_ROWS = 5000
_GROUP_CHARACTERS = 8 * 1024 * 1024
"""A group takes no further call once it holds so much; a call by itself may be larger."""

_IDLE_SECONDS = 5.0
"""The thread ends when nothing came for so long; the next append starts another."""

# Locked, so that no other server's append takes the same indices.
_SELECT = (
    sa.select(
        datasets.c.generation, datasets.c.purpose, datasets.c.num_rows, datasets.c.first_incomplete_row.label("first")
    )
    .where(datasets.c.dataset_id == sa.bindparam("id"))
    .with_for_update()
)
_UPDATE = (
    sa.update(datasets)
    .where(datasets.c.generation == sa.bindparam("this"))
    .values(
        num_rows=datasets.c.num_rows + sa.bindparam("rows"),
        num_bytes=datasets.c.num_bytes + sa.bindparam("bytes"),
        num_incomplete_rows=datasets.c.num_incomplete_rows + sa.bindparam("incomplete"),
        first_incomplete_row=sa.bindparam("first"),
    )
)


@dataclass(eq=False)
class Append:
    """One call: rows as JSON texts for the end of a dataset. `body` is what its `Idempotency-Key` came with."""

    dataset_id: str
    texts: Sequence[str]
    idempotency_key: str | None = None
    body: bytes = b""
    done: Future[int] = field(default_factory=Future)


class Appends:
    """The queue of appends of one process, and the thread that writes them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._waiting: deque[Append] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, append: Append) -> Future[int]:
        """Have rows written. The future is done when they are durable, with how many were added.

        It fails, and nothing was written, with `NotFoundError`, `NoSpaceError`, or `ConflictError` for a key that came
        with another body."""
        with self._changed:
            self._waiting.append(append)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="appends", daemon=True)
                self._thread.start()
            else:
                self._changed.notify()
        return append.done

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting, _IDLE_SECONDS):
                    self._thread = None
                    return
                group = self._take()
            try:
                self._write(group)
            except BaseException as error:
                log.exception("The writer of appends met a bug.")
                _fail(group, error)

    def _take(self) -> Sequence[Append]:
        group: list[Append] = []
        num_rows = num_characters = 0
        while self._waiting and num_rows < _GROUP_ROWS and num_characters < _GROUP_CHARACTERS:
            append = self._waiting.popleft()
            if append.done.set_running_or_notify_cancel():  # else whoever asked for it has left
                group.append(append)
                num_rows += len(append.texts)
                num_characters += sum(map(len, append.texts))
        return group

    def _write(self, group: Sequence[Append]) -> None:
        committing = False
        try:
            with self.database.write() as connection:
                outcomes = _write_all(connection, group)
                committing = True
        except Exception as error:
            # Nothing was stored, unless a commit's answer was lost on the way: then nobody may write it again.
            if len(group) > 1 and (not committing or isinstance(error, NoSpaceError)):
                for append in group:
                    self._write([append])
            else:
                _fail(group, error)
            return
        for append in group:
            outcome = outcomes[append]
            if isinstance(outcome, Exception):
                append.done.set_exception(outcome)
            else:
                append.done.set_result(outcome)


def _fail(group: Sequence[Append], error: BaseException) -> None:
    for append in group:
        if not append.done.done():
            append.done.set_exception(error)


def _write_all(connection: sa.Connection, group: Sequence[Append]) -> dict[Append, int | Exception]:
    """Write a group's rows. Returns how many rows of each call were added, or why it cannot be done: then none were."""
    outcomes: dict[Append, int | Exception] = {}
    by_dataset: dict[str, list[Append]] = {}
    for append in group:
        by_dataset.setdefault(append.dataset_id, []).append(append)
    for dataset_id in sorted(by_dataset):  # every server locks in this order
        found = connection.execute(_SELECT, {"id": dataset_id}).one_or_none()
        if found is None:
            error = NotFoundError(f"There is no dataset {dataset_id!r}.")
            outcomes.update(dict.fromkeys(by_dataset[dataset_id], error))
            continue
        tally = Tally(found.purpose, start=found.num_rows, first_incomplete_row=found.first)
        texts: list[str] = []
        for append in by_dataset[dataset_id]:
            try:
                is_new = not _is_repetition(connection, append, found.generation)
                texts.extend(append.texts if is_new else ())
                outcomes[append] = len(append.texts) if is_new else 0
            except ConflictError as conflict:
                outcomes[append] = conflict
        if texts:
            tally.add(texts)
            row_store.insert(connection, found.generation, found.num_rows, texts)
            connection.execute(
                _UPDATE,
                {
                    "this": found.generation,
                    "rows": tally.num_rows,
                    "bytes": tally.num_bytes,
                    "incomplete": tally.num_incomplete_rows,
                    "first": tally.first_incomplete_row,
                },
            )
    return outcomes


def _is_repetition(connection: sa.Connection, append: Append, generation: int) -> bool:
    """Whether the call was done before, by its key; from now on it was. Raises `ConflictError`."""
    if append.idempotency_key is None:
        return False
    scope, key, body = f"append-rows {generation}", append.idempotency_key, append.body
    if idempotency.recall(connection, scope=scope, key=key, body=body) is not None:
        return True
    idempotency.remember(connection, scope=scope, key=key, body=body, answer="null")
    return False

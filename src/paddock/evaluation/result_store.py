"""The tables of generations and scores: what each job found out, row by row, as JSON text.

A running job writes in its own fenced transactions (`jobs.progress`) and never writes a row twice: the primary keys see
to that. Reading needs no fence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.storage.database import Database
from paddock.storage.tables import generations, scores


@dataclass(frozen=True)
class RowResult:
    """Something that was found out about a row: its generation, or some of its scores, by function. `is_last`: with
    this the row is done."""

    index: int
    generation: Mapping[str, Any] | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True)
class StoredRow:
    """What is known of a row: the text of its generation, or None, and the functions that have scored it."""

    generation_json: str | None
    scored_by: frozenset[str]


class ResultStore:
    """Generations and scores by job and row."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def num_scores(self, job_id: str, function_ids: Sequence[str], num_rows: int, chunk_rows: int) -> dict[int, int]:
        """Number of a chunk of so many rows → how many scores by these functions a job has of its first rows there."""
        chunk = (scores.c.row_index // chunk_rows).label("chunk")
        query = sa.select(chunk, sa.func.count()).where(_scores_by(job_id, function_ids, 0, num_rows)).group_by("chunk")
        with self.database.read() as connection:
            return dict(connection.execute(query).all())

    def known(self, job_id: str, function_ids: Sequence[str], start: int, end: int) -> dict[int, StoredRow]:
        """What a job has found out so far about its rows from `start` up to `end`; rows that it has not are absent."""
        query = sa.select(scores.c.row_index, scores.c.scoring_function).where(
            _scores_by(job_id, function_ids, start, end)
        )
        scored_by: dict[int, set[str]] = {}
        with self.database.read() as connection:
            texts = _texts(connection, generations.c.generation_json, _range(generations, job_id, start, end))
            for index, function_id in connection.execute(query):
                scored_by.setdefault(index, set()).add(function_id)
        return {
            index: StoredRow(texts.get(index), frozenset(scored_by.get(index, ())))
            for index in texts.keys() | scored_by.keys()
        }

    def has_answer(self, job_id: str) -> bool:
        """Whether any row of the job has been answered."""
        return self._exists(sa.and_(generations.c.job_id == job_id, sa.not_(generations.c.failed)))

    def has_score(self, job_id: str, function_id: str) -> bool:
        """Whether the function has scored any row of the job."""
        return self._exists(
            sa.and_(scores.c.job_id == job_id, scores.c.scoring_function == function_id, sa.not_(scores.c.failed))
        )

    def _exists(self, condition: sa.ColumnElement[bool]) -> bool:
        with self.database.read() as connection:
            return bool(connection.execute(sa.select(sa.exists().where(condition))).scalar())

    def num_rows(self, job_id: str) -> int:
        """One more than the highest index of a row that the job has found anything out about."""
        highest = sa.select(sa.func.max(generations.c.row_index)).where(generations.c.job_id == job_id)
        with self.database.read() as connection:
            index = connection.execute(highest).scalar()
        return 0 if index is None else index + 1

    def generation_texts(self, job_id: str, start: int, end: int) -> dict[int, str]:
        """Row index → the JSON text of its generation, from `start` up to `end`."""
        with self.database.read() as connection:
            return _texts(connection, generations.c.generation_json, _range(generations, job_id, start, end))

    def score_texts(self, job_id: str, function_id: str, start: int, end: int) -> dict[int, str]:
        """Row index → the JSON text of its score by one function, from `start` up to `end`."""
        with self.database.read() as connection:
            return _texts(connection, scores.c.score_json, _scores_by(job_id, [function_id], start, end))


def add(connection: sa.Connection, job_id: str, results: Sequence[RowResult]) -> None:
    """Store results, each for the first time. The caller holds the job's fence."""
    found = [
        {
            "job_id": job_id,
            "row_index": result.index,
            "generation_json": wire.to_json(result.generation),
            "failed": "error" in result.generation,
        }
        for result in results
        if result.generation is not None
    ]
    judged = list(_score_rows(job_id, results))
    if found:
        connection.execute(sa.insert(generations), found)
    if judged:
        connection.execute(sa.insert(scores), judged)


def _score_rows(job_id: str, results: Sequence[RowResult]) -> Iterator[dict[str, Any]]:
    for result in results:
        for function_id, score in result.scores.items():
            yield {
                "job_id": job_id,
                "scoring_function": function_id,
                "row_index": result.index,
                "score_json": wire.to_json(score),
                "failed": "error" in score,
            }


def _texts(connection: sa.Connection, column: sa.Column[str], which: sa.ColumnElement[bool]) -> dict[int, str]:
    query = sa.select(column.table.c.row_index, column).where(which)
    return dict(connection.execute(query).all())


def _scores_by(job_id: str, function_ids: Sequence[str], start: int, end: int) -> sa.ColumnElement[bool]:
    # Functions are named, for they stand before the row in the key.
    return sa.and_(_range(scores, job_id, start, end), scores.c.scoring_function.in_(function_ids))


def _range(table: sa.Table, job_id: str, start: int, end: int) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.job_id == job_id, table.c.row_index >= start, table.c.row_index < end)

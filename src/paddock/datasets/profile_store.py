"""The tables of profiles and of digests: what is known of each dataset's rows, up to which row, and which rows are equal.

A profile follows its dataset when somebody asks: some rows in each transaction, behind the appends and never in them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from paddock.datasets.profile import MAX_INDICES, Digests, Profile
from paddock.datasets.row_store import RowStore
from paddock.jobs.job import DatasetVersion
from paddock.storage.database import Database
from paddock.storage.tables import dataset_profiles, datasets, row_digests

_SWEEP_ROWS = 5000

_INSERT = {
    "qmark": "INSERT INTO row_digests (generation, kind, digest, row_index) VALUES (?, ?, ?, ?)",
    "pyformat": "INSERT INTO row_digests (generation, kind, digest, row_index) VALUES (%s, %s, %s, %s)",
}


class ProfileStore:
    """Profiles by generation."""

    def __init__(self, database: Database, row_store: RowStore) -> None:
        self.database = database
        self._rows = row_store

    def follow(self, version: DatasetVersion, purpose: str, *, seconds: float) -> Profile:
        """The profile of a dataset, after looking at its rows that were not looked at yet, for some seconds at most."""
        until = time.monotonic() + seconds
        profile = self._get(version.generation)
        for texts in self._rows.texts(version, profile.as_of_row):
            before = profile.as_of_row
            digests = profile.add(purpose, texts)
            if not self._put(version.generation, before, profile, digests):
                return self._get(version.generation)  # somebody else follows, too
            if time.monotonic() >= until:
                break
        return profile

    def _get(self, generation: int) -> Profile:
        query = sa.select(dataset_profiles.c.profile_json).where(dataset_profiles.c.generation == generation)
        with self.database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return Profile(fields={}, incomplete_rows=[]) if found is None else msgspec.json.decode(found, type=Profile)

    def _put(self, generation: int, before: int, profile: Profile, digests: Digests) -> bool:
        """Store a profile that was read as of row `before`. Returns False, storing nothing, if it has changed since."""
        text = msgspec.json.encode(profile).decode()
        values = {"as_of_row": profile.as_of_row, "profile_json": text}
        with self.database.write() as connection:
            # Locked, so that two do not begin the same profile, and that the dataset is not removed meanwhile.
            locked = sa.select(datasets.c.generation).where(datasets.c.generation == generation).with_for_update()
            if connection.execute(locked).one_or_none() is None:
                return False
            as_of_row = connection.execute(
                sa.select(dataset_profiles.c.as_of_row).where(dataset_profiles.c.generation == generation)
            ).scalar_one_or_none()
            if (as_of_row or 0) != before:
                return False
            if as_of_row is None:
                connection.execute(sa.insert(dataset_profiles).values(generation=generation, **values))
            else:
                this = dataset_profiles.c.generation == generation
                connection.execute(sa.update(dataset_profiles).where(this).values(values))
            inserted = [(generation, "row", digest, index) for digest, index in digests.rows]
            inserted += [(generation, "prompt", digest, index) for digest, index in digests.prompts]
            connection.exec_driver_sql(_INSERT[connection.dialect.paramstyle], inserted)
        return True

    def duplicates(self, generation: int) -> dict[str, Any]:
        """Rows that are equal to an earlier one, but for spaces and the order of keys: how many, and the first."""
        this = sa.and_(row_digests.c.generation == generation, row_digests.c.kind == "row")
        groups = (
            sa.select(row_digests.c.digest, sa.func.min(row_digests.c.row_index).label("first"))
            .where(this)
            .group_by(row_digests.c.digest)
            .having(sa.func.count() > 1)
            .subquery()
        )
        query = (
            sa.select(row_digests.c.row_index, groups.c.first)
            .join(groups, groups.c.digest == row_digests.c.digest)
            .where(this, row_digests.c.row_index > groups.c.first)
        )
        return self._pairs(query, row_digests.c.row_index, "row", "equals")

    def overlap(self, generation: int, other: int) -> dict[str, Any]:
        """Rows that ask what a row of another dataset asks: how many, and the first, each with the other's first row."""
        theirs = row_digests.alias()
        query = (
            sa.select(row_digests.c.row_index, sa.func.min(theirs.c.row_index).label("first"))
            .join(theirs, theirs.c.digest == row_digests.c.digest)
            .where(row_digests.c.generation == generation, row_digests.c.kind == "prompt")
            .where(theirs.c.generation == other, theirs.c.kind == "prompt")
            .group_by(row_digests.c.row_index)
        )
        return self._pairs(query, row_digests.c.row_index, "row", "other_row")

    def _pairs(self, query: sa.Select[Any], order: sa.ColumnElement[Any], left: str, right: str) -> dict[str, Any]:
        with self.database.read() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
            first: Sequence[Any] = connection.execute(query.order_by(order).limit(MAX_INDICES)).all()
        return {"num_rows": count, "rows": [{left: mine, right: theirs} for mine, theirs in first]}

    def sweep(self, generation: int) -> None:
        """Delete the digests of a generation that has no id, in small steps."""
        for kind in ("row", "prompt"):
            this = sa.and_(row_digests.c.generation == generation, row_digests.c.kind == kind)
            last = sa.select(row_digests.c.digest).where(this).order_by(row_digests.c.digest).limit(1)
            while True:
                with self.database.write() as connection:
                    end = connection.execute(last.offset(_SWEEP_ROWS)).scalar_one_or_none()
                    up_to = this if end is None else sa.and_(this, row_digests.c.digest <= end)
                    connection.execute(sa.delete(row_digests).where(up_to))
                if end is None:
                    break

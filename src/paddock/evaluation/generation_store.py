"""Greedy generations that jobs share: the same model, asked the same with the same parameters, need not be asked again.

Off unless the setting `generation_cache_rows` gives it room. An entry's key is the digest of all that the answer depends on:
the model (of one in a local folder also its files' sizes and times, of a remote one its provider's address), the sampling,
and the messages. What a server elsewhere runs under a model's name is known to nobody here: who exchanges it empties the
cache. Judges are never cached.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from paddock import wire
from paddock.evaluation import prompts
from paddock.evaluation.asking import Manner
from paddock.evaluation.plan import Candidate
from paddock.evaluation.prompts import UnreadableRowError
from paddock.inference.engine import Model
from paddock.storage.database import Database
from paddock.storage.tables import cached_generations

_NUM_AT_ONCE = 500


class GenerationCache:
    """The table of cached generations, at most `max_rows` of them; with 0 it is empty and stays so."""

    def __init__(self, database: Database, max_rows: int, addresses: Mapping[str, str] | None = None) -> None:
        self._database = database
        self._max_rows = max_rows
        self._addresses = addresses or {}

    def keys(self, rows: Mapping[int, Mapping[str, Any]], candidate: Candidate) -> dict[int, str]:
        """The key of each row that can be cached: none where the cache is off, or answers are drawn."""
        if self._max_rows == 0 or candidate.sampling.temperature > 0:
            return {}
        about = hashlib.sha256(
            wire.to_json(
                [_identity(candidate.model), self._address(candidate.model), dataclasses.asdict(candidate.sampling)]
            ).encode()
        )
        found = {}
        for index, row in rows.items():
            try:
                asked = _asked(row, candidate)
            except UnreadableRowError:
                continue
            digest = about.copy()
            digest.update(wire.to_json(asked).encode(errors="surrogatepass"))
            found[index] = digest.hexdigest()
        return found

    def find(self, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Key → the generation, of those that there are; each says that it is `cached`."""
        found: dict[str, Mapping[str, Any]] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _NUM_AT_ONCE):
            query = sa.select(cached_generations.c.key_sha256, cached_generations.c.generation_json).where(
                cached_generations.c.key_sha256.in_(wanted[start : start + _NUM_AT_ONCE])
            )
            with self._database.read() as connection:
                for key, text in connection.execute(query):
                    found[key] = {**wire.from_json(text), "cached": True}
        return found

    def add(self, connection: sa.Connection, generations: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep generations, but not failed ones. Of two jobs that come with the same the first counts."""
        now = time.time()
        rows = [
            {"key_sha256": key, "generation_json": wire.to_json(generation), "created_at": now}
            for key, generation in generations.items()
            if "error" not in generation
        ]
        if rows:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            connection.execute(insert(cached_generations).on_conflict_do_nothing(), rows)

    def prune(self) -> None:
        """Forget the oldest of those that are too many."""
        newest = (
            sa.select(cached_generations.c.key_sha256)
            .order_by(cached_generations.c.created_at.desc(), cached_generations.c.key_sha256)
            .limit(self._max_rows)
        )
        with self._database.read() as connection:
            num_rows = connection.execute(sa.select(sa.func.count()).select_from(cached_generations)).scalar_one()
        if num_rows > self._max_rows:
            with self._database.write() as connection:
                connection.execute(sa.delete(cached_generations).where(cached_generations.c.key_sha256.not_in(newest)))

    def _address(self, model: Model) -> str | None:
        return self._addresses.get(model.provider_id)


def _asked(row: Mapping[str, Any], candidate: Candidate) -> Any:
    """All that the model is shown of a row. Raises `UnreadableRowError`."""
    if candidate.manner is Manner.CHAT:
        return prompts.messages(row, candidate.system)
    if candidate.manner is Manner.COMPLETION:
        return prompts.text(row)
    return [prompts.text(row), prompts.continuations(row)]


def _identity(model: Model) -> Collection[Any]:
    """What the model is; `created_at` only says since when."""
    known = {name: value for name, value in dataclasses.asdict(model).items() if name != "created_at"}
    folder = Path(model.provider_model_id)
    if model.provider_id != "local" or not folder.is_absolute() or not folder.is_dir():
        return [known]
    stats = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    return [known, [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]]

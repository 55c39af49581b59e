"""Scoring functions by id: those that come with Paddock, and the table of those that users registered.

A registered function is one that comes with Paddock, with parameters of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from paddock import wire
from paddock.errors import ConflictError, NotFoundError
from paddock.evaluation.schemas import ScoringFnParams
from paddock.evaluation.scoring import KINDS, SCORING_FUNCTIONS, kind_of
from paddock.evaluation.scoring.function import Params, completed
from paddock.storage.database import Database
from paddock.storage.tables import benchmarks, scoring_functions

PROVIDER_ID = "paddock"

_params: TypeAdapter[Params] = TypeAdapter(ScoringFnParams)


def params_from_json(value: Any) -> Params:
    """Parameters from their JSON, by its `type`."""
    return _params.validate_python(value)


@dataclass(frozen=True)
class RegisteredFunction:
    """A scoring function that a user registered, as it was sent; `params` None: those of the kind `basic`."""

    scoring_fn_id: str
    provider_id: str
    provider_scoring_fn_id: str | None
    description: str
    return_type: dict[str, Any]
    params: dict[str, Any] | None

    @property
    def kind(self) -> str:
        """The function of `SCORING_FUNCTIONS` that does its work."""
        return KINDS["basic"] if self.params is None else kind_of(params_from_json(self.params))


@dataclass(frozen=True)
class Definition:
    """What stands behind a function id: the function of `SCORING_FUNCTIONS`, and what it runs with by default."""

    kind: str
    defaults: Params


class FunctionStore:
    """Scoring functions by id."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def find(self, scoring_fn_id: str, connection: sa.Connection | None = None) -> RegisteredFunction | None:
        """The registered function of this id, or None, also for one that comes with Paddock. It cannot be removed
        before a given transaction ends."""
        query = sa.select(scoring_functions).where(scoring_functions.c.scoring_fn_id == scoring_fn_id)
        if connection is None:
            with self.database.read() as own:
                row = own.execute(query).one_or_none()
        else:
            row = connection.execute(query.with_for_update(read=True)).one_or_none()
        return None if row is None else _function(row)

    def define(self, scoring_fn_id: str, connection: sa.Connection | None = None) -> Definition | None:
        """What stands behind an id, or None if nothing bears it."""
        if scoring_fn_id in SCORING_FUNCTIONS:
            return Definition(scoring_fn_id, SCORING_FUNCTIONS[scoring_fn_id].defaults)
        function = self.find(scoring_fn_id, connection)
        return None if function is None else defined(function)

    def list(self) -> Sequence[RegisteredFunction]:
        """All registered functions, in order of their ids."""
        with self.database.read() as connection:
            query = sa.select(scoring_functions).order_by(scoring_functions.c.scoring_fn_id)
            return [_function(row) for row in connection.execute(query)]

    def register(self, function: RegisteredFunction, *, replace: bool = False) -> RegisteredFunction:
        """Add a function. The same thing twice is fine; another one under the same id raises `ConflictError`, unless it
        is to `replace` what was registered there."""
        if function.scoring_fn_id in SCORING_FUNCTIONS:
            raise ConflictError(f"{function.scoring_fn_id} comes with Paddock. Choose another id.")
        with self.database.write() as connection:
            existing = self.find(function.scoring_fn_id, connection)
            if existing == function:
                return existing
            if existing is not None and not replace:
                raise ConflictError(
                    f"There is another scoring function under the id {function.scoring_fn_id!r}. "
                    "Remove it first, or choose a new id."
                )
            this = scoring_functions.c.scoring_fn_id == function.scoring_fn_id
            connection.execute(sa.delete(scoring_functions).where(this))
            connection.execute(
                sa.insert(scoring_functions).values(
                    scoring_fn_id=function.scoring_fn_id,
                    provider_id=function.provider_id,
                    provider_scoring_fn_id=function.provider_scoring_fn_id,
                    description=function.description,
                    return_type_json=wire.to_json(function.return_type),
                    params_json=wire.to_json(function.params),
                    metadata_json="{}",
                    created_at=time.time(),
                )
            )
        return function

    def remove(self, scoring_fn_id: str) -> None:
        """Forget a registered function; jobs keep what they were submitted with. Raises `NotFoundError`, or
        `ConflictError` if it comes with Paddock or a benchmark names it."""
        if scoring_fn_id in SCORING_FUNCTIONS:
            raise ConflictError(f"{scoring_fn_id} comes with Paddock and stays.")
        with self.database.write() as connection:
            removed = connection.execute(
                sa.delete(scoring_functions).where(scoring_functions.c.scoring_fn_id == scoring_fn_id)
            )
            if removed.rowcount != 1:
                raise not_found(scoring_fn_id)
            # Asked after the deletion, which has waited for a benchmark that was being registered with it.
            for row in connection.execute(sa.select(benchmarks.c.benchmark_id, benchmarks.c.scoring_functions_json)):
                if scoring_fn_id in wire.from_json(row.scoring_functions_json):
                    raise ConflictError(
                        f"The benchmark {row.benchmark_id!r} names the scoring function {scoring_fn_id!r}: "
                        "remove the benchmark first."
                    )


def defined(function: RegisteredFunction) -> Definition:
    """What stands behind a registered function."""
    defaults = SCORING_FUNCTIONS[function.kind].defaults
    if function.params is None:
        return Definition(function.kind, defaults)
    return Definition(function.kind, completed(params_from_json(function.params), defaults))


def not_found(scoring_fn_id: str) -> NotFoundError:
    """What is said of an id that no scoring function bears."""
    return NotFoundError(
        f"There is no scoring function {scoring_fn_id!r}: `/v1/scoring-functions` lists those that are."
    )


def _function(row: sa.Row[Any]) -> RegisteredFunction:
    return RegisteredFunction(
        scoring_fn_id=row.scoring_fn_id,
        provider_id=row.provider_id,
        provider_scoring_fn_id=row.provider_scoring_fn_id,
        description=row.description,
        return_type=wire.from_json(row.return_type_json),
        params=wire.from_json(row.params_json),
    )

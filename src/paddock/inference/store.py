"""The table of models: those that were registered, and the checkpoints that training published."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import sqlalchemy as sa

from paddock import wire
from paddock.errors import ConflictError, NotFoundError
from paddock.inference.engine import Model
from paddock.storage.database import Database
from paddock.storage.tables import models


class ModelStore:
    """Models by id."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def find(self, model_id: str, connection: sa.Connection | None = None) -> Model | None:
        """The registered model or checkpoint of this id, or None."""
        if connection is None:
            with self.database.read() as own:
                return self.find(model_id, own)
        row = connection.execute(sa.select(models).where(models.c.model_id == model_id)).one_or_none()
        return None if row is None else _model(row)

    def list(self) -> list[Model]:
        """All models, in order of their ids."""
        with self.database.read() as connection:
            return [_model(row) for row in connection.execute(sa.select(models).order_by(models.c.model_id))]

    def register(self, model: Model, connection: sa.Connection | None = None, *, replace: bool = False) -> Model:
        """Add a model. The same thing twice is fine; another one under the same id raises `ConflictError`, unless
        it is to `replace` what was registered there."""
        if connection is None:
            with self.database.write() as own:
                return self.register(model, own, replace=replace)
        existing = self.find(model.model_id, connection)
        if existing == model:
            return existing
        if existing is not None and not (replace and existing.job_id is None):
            raise ConflictError(
                f"There is another model under the id {model.model_id}. Remove it first, or choose a new id."
            )
        model = dataclasses.replace(model, created_at=time.time())
        connection.execute(sa.delete(models).where(models.c.model_id == model.model_id))
        connection.execute(
            sa.insert(models).values(
                model_id=model.model_id,
                provider_id=model.provider_id,
                provider_model_id=model.provider_model_id,
                model_type=model.model_type,
                metadata_json=wire.to_json(model.metadata),
                job_id=model.job_id,
                base_model=model.base_model,
                created_at=model.created_at,
            )
        )
        return model

    def remove(self, model_id: str) -> None:
        """Forget a registered model; its files stay. Raises `NotFoundError`, or `ConflictError` for a checkpoint."""
        with self.database.write() as connection:
            model = self.find(model_id, connection)
            if model is None:
                raise NotFoundError(f"There is no model {model_id}.")
            if model.job_id is not None:
                raise ConflictError(f"{model_id} is a checkpoint of the job {model.job_id}, not a registered model.")
            connection.execute(sa.delete(models).where(models.c.model_id == model_id))


def _model(row: sa.Row[Any]) -> Model:
    return Model(
        model_id=row.model_id,
        provider_id=row.provider_id,
        provider_model_id=row.provider_model_id,
        model_type=row.model_type,
        metadata=wire.from_json(row.metadata_json),
        job_id=row.job_id,
        base_model=row.base_model,
        created_at=row.created_at,
    )

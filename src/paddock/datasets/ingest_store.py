"""The table of ingests: long sources that jobs read into datasets, and how far each is.

An ingest's rows and its count are written in one fenced transaction, so that a kill between two of them leaves the source
to be read on from exactly there. Clients may append meanwhile: an ingest counts the rows of its source, not the dataset's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from paddock.datasets import row_store
from paddock.datasets.rows import SourceError
from paddock.datasets.tally import Tally
from paddock.errors import NotFoundError
from paddock.jobs import report_store, states
from paddock.jobs.job import DatasetVersion
from paddock.jobs.progress import Progress
from paddock.storage.database import Database
from paddock.storage.tables import datasets, ingests, job_datasets, jobs

_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True)
class Ingest:
    """How far a source is read: `num_rows_read` of its rows are in the dataset, and these have this digest."""

    generation: int
    job_id: str
    num_rows_read: int
    rows_sha256: str
    finished: bool


class IngestStore:
    """Ingests by the generation that they fill."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, generation: int) -> Ingest:
        """The ingest of a generation. Raises `NotFoundError` if the dataset is gone."""
        with self.database.read() as connection:
            found = connection.execute(sa.select(ingests).where(ingests.c.generation == generation)).one_or_none()
        if found is None:
            raise NotFoundError("The dataset was removed.")
        return Ingest(**found._mapping)

    def take(
        self, progress: Progress, generation: int, texts: Sequence[str], *, rows_sha256: str, num_nan_values: int
    ) -> None:
        """Add the next rows of the source; `rows_sha256` and `num_nan_values` are of all its rows so far.

        Raises `LostLeaseError`, writing nothing, if the attempt is over."""
        with progress.write() as connection:
            # Locked, so that no append takes the same indices.
            before = connection.execute(
                sa.select(datasets.c.purpose, datasets.c.num_rows, datasets.c.first_incomplete_row)
                .where(datasets.c.generation == generation)
                .with_for_update()
            ).one()
            tally = Tally(before.purpose, start=before.num_rows, first_incomplete_row=before.first_incomplete_row)
            tally.add(texts)
            row_store.insert(connection, generation, before.num_rows, texts)
            connection.execute(
                sa.update(datasets)
                .where(datasets.c.generation == generation)
                .values(
                    num_rows=datasets.c.num_rows + tally.num_rows,
                    num_bytes=datasets.c.num_bytes + tally.num_bytes,
                    num_incomplete_rows=datasets.c.num_incomplete_rows + tally.num_incomplete_rows,
                    first_incomplete_row=tally.first_incomplete_row,
                    num_nan_values=num_nan_values,
                )
            )
            done: int = connection.execute(
                sa.update(ingests)
                .where(ingests.c.generation == generation)
                .values(num_rows_read=ingests.c.num_rows_read + tally.num_rows, rows_sha256=rows_sha256)
                .returning(ingests.c.num_rows_read)
            ).scalar_one()
            report_store.set_progress(connection, progress.job.job_id, done=done, total=None, unit="rows")

    def finish(self, progress: Progress, generation: int) -> None:
        """The source is read to its end: jobs that waited for it read what the dataset holds now, and no further."""
        with progress.write() as connection:
            # Locked against a job that is being submitted: it is seen here, or sees that the ingest has finished.
            num_rows: int = connection.execute(
                sa.select(datasets.c.num_rows).where(datasets.c.generation == generation).with_for_update()
            ).scalar_one()
            connection.execute(sa.update(ingests).where(ingests.c.generation == generation).values(finished=True))
            waiting = sa.select(jobs.c.job_id).where(jobs.c.status == "scheduled", jobs.c.attempt == 0)
            connection.execute(
                sa.update(job_datasets)
                .where(job_datasets.c.generation == generation, job_datasets.c.job_id.in_(waiting))
                .values(num_rows=num_rows)
            )

    def check_whole(self, versions: Sequence[DatasetVersion]) -> None:
        """Raise `SourceError` unless all of these datasets are read to their sources' ends."""
        query = sa.select(ingests.c.job_id).where(sa.not_(ingests.c.finished))
        for version in versions:
            with self.database.read() as connection:
                found = connection.execute(query.where(ingests.c.generation == version.generation)).one_or_none()
            if found is not None:
                raise SourceError(
                    f"The source of the dataset {version.dataset_id!r} was not read to its end (job {found.job_id})."
                )


def begin(connection: sa.Connection, generation: int, job_id: str) -> None:
    """Note that a job reads a source into a generation: a new one, or one that an earlier job left unfinished."""
    again = connection.execute(sa.update(ingests).where(ingests.c.generation == generation).values(job_id=job_id))
    if not again.rowcount:
        connection.execute(
            sa.insert(ingests).values(
                generation=generation, job_id=job_id, num_rows_read=0, rows_sha256=_EMPTY_SHA256, finished=False
            )
        )


def cancel(connection: sa.Connection, now: states.Now, generation: int) -> None:
    """End the job that reads into a generation, if there is one."""
    job_id = connection.execute(
        sa.select(ingests.c.job_id).where(ingests.c.generation == generation)
    ).scalar_one_or_none()
    if job_id is not None:
        states.cancel(connection, now, job_id)

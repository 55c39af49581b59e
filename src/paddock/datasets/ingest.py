"""The job that reads a long source into its dataset, some rows at a time; after a kill it goes on behind the last of them.

A source is read from its beginning each time. Rows that are there already are not stored again, and must be the same as
before: a file that was changed meanwhile ends the ingest, for nobody could say what the dataset is then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from time import monotonic, sleep

from paddock.datasets.ingest_store import IngestStore
from paddock.datasets.rows import SourceError
from paddock.datasets.sources import Access, open_source
from paddock.jobs.progress import Progress

KIND = "ingest"

MAX_ROWS = 200_000_000

_LOT_ROWS = 2000
_LOT_CHARACTERS = 2 * 1024 * 1024

_PAUSE = 0.5
"""How long others may write between two lots, as a part of what a lot took: a waiting append is let in by chance."""


def run(progress: Progress, ingests: IngestStore, access: Access) -> None:
    """Read the source of the job that `progress` stands for to its end, or what is left of it.

    Raises `SourceError` naming the line that is wrong, and `StopRequestedError` between two lots."""
    request = progress.job.request
    generation = request["generation"]
    ingest = ingests.get(generation)
    if ingest.finished:  # killed between the last row and the job's own end
        return
    digest = hashlib.sha256()
    num_rows = 0
    source = open_source(request["uri"], access, request["column_types"], check_stop=progress.check_stop)
    with source as source_rows:
        texts = iter(source_rows.texts)
        for lot in _lots(islice(texts, ingest.num_rows_read)):
            progress.check_stop()
            _digest(digest, lot)
            num_rows += len(lot)
        if digest.hexdigest() != ingest.rows_sha256 or num_rows != ingest.num_rows_read:
            raise SourceError(
                f"The source was changed: its first {ingest.num_rows_read} rows are not those that were read before. "
                "Remove the dataset and register it again."
            )
        for lot in _lots(texts):
            progress.check_stop()
            num_rows += len(lot)
            if num_rows > MAX_ROWS:
                raise SourceError(f"The source has more than {MAX_ROWS} rows.")
            _digest(digest, lot)
            begun = monotonic()
            ingests.take(
                progress,
                generation,
                lot,
                rows_sha256=digest.hexdigest(),
                num_nan_values=source_rows.num_nan_values,
            )
            sleep(_PAUSE * (monotonic() - begun))
    ingests.finish(progress, generation)


def _digest(digest: hashlib._Hash, lot: Sequence[str]) -> None:
    digest.update(("\n".join(lot) + "\n").encode())


def _lots(texts: Iterator[str]) -> Iterator[Sequence[str]]:
    lot: list[str] = []
    num_characters = 0
    for text in texts:
        lot.append(text)
        num_characters += len(text)
        if len(lot) == _LOT_ROWS or num_characters >= _LOT_CHARACTERS:
            yield lot
            lot, num_characters = [], 0
    if lot:
        yield lot

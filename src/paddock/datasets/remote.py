"""Rows from elsewhere: URLs through `egress`, object stores through fsspec, the Hugging Face hub through `datasets`.

Nothing is reached that the setting `dataset_hosts` does not name: hosts, `s3://bucket`, and `huggingface.co` for the hub.
The two libraries are extras, imported only where such a source is read.
"""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from paddock.datasets import columnar
from paddock.datasets.rows import SourceError, SourceRows
from paddock.egress import Egress, EgressError, LimitError, Limits
from paddock.errors import NoSpaceError

HUB_HOST = "huggingface.co"
HUB_SCHEMES = ("hf", "huggingface")
STORES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Scheme of an object store → the package that fsspec reads it with."""

_HUB_PARAMETERS = ("split", "name", "revision", "data_dir", "data_files")


class LongSourceError(SourceError):
    """A source that is too long: to be read while a request waits, or at all."""


class Remote(NamedTuple):
    """A file from elsewhere: what it is called, the surest first, and its content."""

    names: tuple[str, ...]
    file: BinaryIO


@contextmanager
def fetched(uri: str, egress: Egress, limits: Limits, check_stop: Callable[[], None]) -> Iterator[Remote]:
    """What a URL gives, as a temporary file. Raises `SourceError`, `NoSpaceError`, and `LongSourceError` where a limit
    was met."""
    with tempfile.TemporaryFile() as file:

        def write(piece: bytes) -> None:
            check_stop()
            try:
                file.write(piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise NoSpaceError("The disk is full: the source could not be fetched.") from None

        try:
            found = asyncio.run(egress.fetch(uri, write, limits))
        except LimitError as error:
            raise LongSourceError(error.detail) from None
        except EgressError as error:
            raise SourceError(error.detail) from None
        file.seek(0)
        subtype = found.content_type.partition(";")[0].strip().rpartition("/")[2]
        yield Remote((subtype, extension(urlsplit(uri).path)), cast(BinaryIO, file))


@contextmanager
def stored(uri: str) -> Iterator[Remote]:
    """An object of a store, read as it is asked for. Raises `SourceError`."""
    scheme = uri.partition(":")[0].lower()
    if "::" in uri or "*" in uri or "\0" in uri:
        raise SourceError(f"An object is named as {scheme}://bucket/folder/file.jsonl")
    try:
        import fsspec

        filesystem = fsspec.filesystem(scheme)
    except ImportError:
        raise SourceError(
            f"{scheme}: sources are read with the package {STORES[scheme]}, which is not installed."
        ) from None
    try:
        file = filesystem.open(scheme + uri[len(scheme) :], "rb")
    except FileNotFoundError:
        raise SourceError("There is no such object.") from None
    except PermissionError:
        raise SourceError("The object may not be read with the credentials that the server has.") from None
    except Exception as error:  # each store's library has its own, and their words name what the server knows
        raise SourceError(f"The object cannot be opened ({type(error).__name__}).") from None
    with file:
        yield Remote((extension(uri),), file)


def bucket(uri: str) -> str:
    """The entry of `dataset_hosts` that allows an object's URI: its scheme and its bucket."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme.lower()}://{rest.partition('/')[0]}"


class HubDataset(NamedTuple):
    """A dataset of the hub, and how `datasets.load_dataset` is asked for it."""

    repository: str
    parameters: dict[str, str]


def parse_hub(uri: str) -> HubDataset:
    """Read `hf://datasets/<repository>?split=…`, or the same with `huggingface:`. Raises `SourceError`."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    names = unquote(parts.path).strip("/").split("/")
    if parts.netloc != "datasets" or not 1 <= len(names) <= 2 or not all(map(_is_hub_name, names)):
        raise SourceError("A dataset of the hub is named as hf://datasets/<owner>/<name>?split=train")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in parameters if name not in _HUB_PARAMETERS]
    if unknown:
        raise SourceError(f"A hub source takes {', '.join(_HUB_PARAMETERS)}; {unknown[0]!r} is none of them.")
    if "split" not in parameters:
        raise SourceError("A hub source names its split, as in ?split=train")
    for value in (parameters.get("data_dir", ""), parameters.get("data_files", "")):
        if ":" in value or ".." in value or value.startswith("/"):
            raise SourceError("`data_dir` and `data_files` are paths inside the hub's repository.")
    return HubDataset("/".join(names), parameters)


def _is_hub_name(name: str) -> bool:
    return (
        name.isascii() and name.strip(".") != "" and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    )


def read_hub(dataset: HubDataset) -> SourceRows:
    """The rows of a hub's dataset, as a stream. Raises `SourceError`, also while rows are read."""
    # The library takes a folder of this name for the dataset.
    if Path(dataset.repository).exists():
        raise SourceError("The server runs in a folder where this name is one of its own.")
    return load(dataset.repository, dataset.parameters)


def load(path: str, parameters: dict[str, str]) -> SourceRows:
    """What `datasets.load_dataset` finds, as rows: typed values as in Parquet, images and sounds as their bytes."""
    try:
        import datasets
    except ImportError:
        raise SourceError(
            "The hub is read with the library datasets, which is not installed: install Paddock with its extra `hub`."
        ) from None
    try:
        found = datasets.load_dataset(path, streaming=True, **parameters)
    # The library raises whatever its readers, its cache or the network do.
    except Exception as error:
        raise SourceError(f"The hub's dataset cannot be read: {_first_line(error)}") from None
    source_rows = SourceRows(())
    source_rows.texts = _hub_texts(found, source_rows)
    return source_rows


def _hub_texts(found: Any, source_rows: SourceRows) -> Iterator[str]:
    num_rows = 0
    try:
        for table in found.with_format("arrow").iter(batch_size=columnar.BATCH_ROWS):
            for text in columnar.batch_texts(table, source_rows):
                yield text
                num_rows += 1
    except Exception as error:
        raise SourceError(f"The hub's dataset cannot be read after {num_rows} rows: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def extension(path: str) -> str:
    """A file's extension, without that of its compression: `a.jsonl.gz` → `jsonl`."""
    suffixes = [suffix.removeprefix(".").lower() for suffix in PurePosixPath(unquote(path)).suffixes]
    while suffixes and suffixes[-1] in ("gz", "zst", "zstd"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""

"""Where a dataset's rows are read from: `data:` URIs, `file:` URIs below the configured `dataset_roots`, and by way of
`remote` what the setting `dataset_hosts` allows.

A source is read once: while its registration waits, or, where it is long, by a job. What a refusal says of a file is
what the client wrote, never where a link or a root leads.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from paddock.datasets import formats, remote
from paddock.datasets.delimited import ColumnTypes
from paddock.datasets.remote import LongSourceError
from paddock.datasets.rows import SourceError, SourceRows
from paddock.egress import Egress, Limits
from paddock.settings import Settings

_SHOWN_CHARACTERS = 200

SMALL_BYTES = 8 * 1024 * 1024
"""A file up to here, of rows up to here, is read while its registration waits; a URL if it comes within seconds, too."""

_SMALL_LIMITS = Limits(max_bytes=SMALL_BYTES, seconds=10)
LIMITS = Limits(max_bytes=64 * 1024**3, seconds=12 * 3600)
"""How much a job fetches from a URL."""


@dataclass(frozen=True)
class Access:
    """What may be read: folders for `file:`, and hosts, buckets and networks for the rest; nothing by default."""

    roots: Sequence[Path] = ()
    hosts: Sequence[str] = ()
    networks: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """What the settings allow. Raises `InvalidRequestError` for an entry that is no host or network."""
        access = cls(settings.dataset_roots, settings.dataset_hosts, settings.dataset_networks)
        access.egress()
        return access

    def egress(self) -> Egress:
        return Egress([host for host in self.hosts if "://" not in host], self.networks)


def check(uri: str, access: Access) -> str:
    """The scheme of a URI that may be read. Raises `SourceError`, as far as the URI alone tells."""
    scheme = uri.partition(":")[0].lower()
    if scheme in remote.STORES and remote.bucket(uri) not in access.hosts:
        raise SourceError(f"{remote.bucket(uri)!r} is none of the buckets that the setting `dataset_hosts` names.")
    if scheme in remote.HUB_SCHEMES:
        remote.parse_hub(uri)
        if remote.HUB_HOST not in access.hosts:
            raise SourceError(f"The setting `dataset_hosts` does not name {remote.HUB_HOST}, where the hub is.")
    known = ("data", "file", "http", "https", *remote.HUB_SCHEMES, *remote.STORES)
    if scheme not in known:
        names = ", ".join(f"{name}:" for name in known)
        raise SourceError(f"Sources are read from the URIs {names}, not from {uri[:_SHOWN_CHARACTERS]!r}.")
    return scheme


@contextmanager
def open_source(
    uri: str,
    access: Access,
    column_types: ColumnTypes | None = None,
    *,
    limits: Limits = LIMITS,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[SourceRows]:
    """The rows that a URI names, while the context lasts. `check_stop` is called now and then, to end it by an exception.

    Raises `SourceError`, also while rows are read, and `LongSourceError` where a limit is met."""
    types = column_types or {}
    scheme = check(uri, access)
    if scheme in remote.HUB_SCHEMES:
        yield remote.read_hub(remote.parse_hub(uri))
    elif scheme in remote.STORES:
        with remote.stored(uri) as found:
            yield formats.read(found.names, found.file, types)
    elif scheme in ("http", "https"):
        with remote.fetched(uri, access.egress(), limits, check_stop) as found:
            yield formats.read(found.names, found.file, types)
    elif scheme == "file":
        with _open_file(uri, access.roots) as file:
            yield formats.read((remote.extension(_file_path(uri)),), file, types)
    else:
        name, content = _decode_data_uri(uri)
        yield formats.read((name,), io.BytesIO(content), types)


@contextmanager
def open_small(uri: str, access: Access, column_types: ColumnTypes) -> Iterator[SourceRows]:
    """`open_source` while a request waits: raises `LongSourceError`, also while rows are read, for a source that takes
    longer than that is worth."""
    scheme = check(uri, access)
    if scheme in (*remote.HUB_SCHEMES, *remote.STORES):
        raise LongSourceError("Hubs and object stores are slow, and so is loading what reads them.")
    if scheme == "file":
        with _open_file(uri, access.roots) as file:
            if os.fstat(file.fileno()).st_size > SMALL_BYTES:
                raise LongSourceError("The file is large.")
    with open_source(uri, access, column_types, limits=_SMALL_LIMITS) as source_rows:
        if scheme != "data":  # which came in the request, and has its limit
            source_rows.texts = _short(source_rows.texts)
        yield source_rows


def _short(texts: Iterable[str]) -> Iterator[str]:
    num_characters = 0
    for text in texts:
        num_characters += len(text)
        if num_characters > SMALL_BYTES:
            raise LongSourceError("The source unfolds to many rows.")
        yield text


def _decode_data_uri(uri: str) -> tuple[str, bytes]:
    """The media subtype and the content of a data URI (RFC 2397)."""
    head, comma, data = uri[len("data:") :].partition(",")
    if not comma:
        raise SourceError("The data URI has no comma between its media type and its data.")
    media_type, *parameters = (part.strip().lower() for part in head.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise SourceError(f"The data URI's charset is {value}: only UTF-8 is read.")
    content = unquote_to_bytes(data)
    if "base64" in parameters:
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except binascii.Error as error:
            raise SourceError(f"The data URI's base64 is broken: {error}.") from None
    # Some write `data:csv;base64,…`, without the first half of the media type.
    return media_type.rpartition("/")[2], content


def _file_path(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="strict")
    except ValueError:
        parts, path = None, ""
    if parts is None or parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise SourceError("A file URI names an absolute path on this machine: file:///folder/file.jsonl")
    return path


def _open_file(uri: str, roots: Sequence[Path]) -> BinaryIO:
    if not roots:
        raise SourceError("The setting `dataset_roots` names no folder that `file:` sources may read.")
    no_file = f"There is no file to read at {uri[:_SHOWN_CHARACTERS]!r}."
    try:
        path = Path(_file_path(uri)).resolve()
        if not any(path.is_relative_to(root.expanduser().resolve()) for root in roots):
            raise SourceError(f"{uri[:_SHOWN_CHARACTERS]!r} lies outside the folders that `dataset_roots` names.")
        # The path holds no links any more, and none may have come in since; a pipe must not stop us from opening.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, RuntimeError):  # RuntimeError: a circle of links
        raise SourceError(no_file) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(no_file)
    return os.fdopen(descriptor, "rb")

"""Where a dataset's rows are read from: `data:` URIs, and `file:` URIs below the configured `dataset_roots`.

A source is read once, at registration. What a refusal says of a file is what the client wrote, never where a link or a
root leads.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from paddock.datasets import formats
from paddock.datasets.rows import SourceError, SourceRows

_SHOWN_CHARACTERS = 200


@contextmanager
def open_source(uri: str, roots: Sequence[Path]) -> Iterator[SourceRows]:
    """The rows that a URI names, while the context lasts. Raises `SourceError`, also while rows are read."""
    scheme = uri.partition(":")[0].lower()
    if scheme == "data":
        name, content = _decode_data_uri(uri)
        yield _read(name, io.BytesIO(content))
    elif scheme == "file":
        with _open_file(uri, roots) as file:
            yield _read(Path(_file_path(uri)).suffix.removeprefix("."), file)
    else:
        raise SourceError(f"Sources are read from `data:` and `file:` URIs, not from {uri[:_SHOWN_CHARACTERS]!r}.")


def _read(name: str, file: BinaryIO) -> SourceRows:
    return formats.READERS[formats.format_of(name, file)](file)


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

"""Compressed sources, told by their first bytes: gzip and zstd, unfolded as a stream and within a ratio."""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from typing import Any, BinaryIO, cast

from paddock.datasets.rows import SourceError

_MAX_RATIO = 200
_SLACK_BYTES = 1024 * 1024
"""So much may come out before the ratio of what came out to what went in counts."""
_BUFFER_BYTES = 256 * 1024

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def is_compressed(file: BinaryIO) -> bool:
    """Whether a seekable file begins as a compressed one."""
    start = file.read(4)
    file.seek(0)
    return start.startswith((_GZIP, _ZSTD))


def unfold(file: BinaryIO) -> BinaryIO:
    """A compressed file's content from its beginning, as a stream. Raises `SourceError`, also while it is read."""
    start = file.read(4)
    file.seek(0)
    reader: Any
    if start.startswith(_GZIP):
        reader = gzip.GzipFile(fileobj=file, mode="rb")
        return _buffered(reader, file, (OSError, EOFError, zlib.error))
    try:
        import zstandard
    except ImportError:
        raise SourceError(
            "The source is compressed with zstd, which is read with the library zstandard: "
            "install Paddock with its extra `zstd`."
        ) from None
    reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
        file, read_size=_BUFFER_BYTES, read_across_frames=True, closefd=False
    )
    return _buffered(reader, file, (zstandard.ZstdError,))


def seekable(file: BinaryIO) -> BinaryIO:
    """The same content as a temporary file, for formats that are read from several places at once."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # its reader closes it
    while piece := file.read(_BUFFER_BYTES):
        spool.write(piece)
    spool.seek(0)
    return cast(BinaryIO, spool)


def _buffered(reader: Any, file: BinaryIO, errors: tuple[type[Exception], ...]) -> BinaryIO:
    return io.BufferedReader(_Unfolded(reader, file, errors), _BUFFER_BYTES)


class _Unfolded(io.RawIOBase):
    """What a decompressor reads from a file, as long as it is in proportion."""

    def __init__(self, reader: Any, file: BinaryIO, errors: tuple[type[Exception], ...]) -> None:
        self._reader = reader
        self._file = file
        self._errors = errors
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            num_read: int = self._reader.readinto(buffer)
        except self._errors:
            raise SourceError(f"The source's compression is broken after {self._num_bytes} bytes.") from None
        self._num_bytes += num_read
        if self._num_bytes > _MAX_RATIO * self._file.tell() + _SLACK_BYTES:
            raise SourceError("The source is compressed beyond measure.")
        return num_read

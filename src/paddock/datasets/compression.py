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

_ZSTD_PIECE_BYTES = 512
"""What comes out for one piece is held in memory: 16 MB at the very most."""

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
    reader = _ZstdReader(zstandard.ZstdDecompressor(max_window_size=2**27), file)
    return _buffered(reader, file, (zstandard.ZstdError, EOFError))


def seekable(file: BinaryIO) -> BinaryIO:
    """The same content as a temporary file, for formats that are read from several places at once."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # its reader closes it
    while piece := file.read(_BUFFER_BYTES):
        spool.write(piece)
    spool.seek(0)
    return cast(BinaryIO, spool)


def _buffered(reader: Any, file: BinaryIO, errors: tuple[type[Exception], ...]) -> BinaryIO:
    return io.BufferedReader(_Unfolded(reader, file, errors), _BUFFER_BYTES)


class _ZstdReader:
    """Frames of zstd behind each other. The library's own reader takes a file that breaks off for a shorter one."""

    def __init__(self, decompressor: Any, file: BinaryIO) -> None:
        self._decompressor = decompressor
        self._file = file
        self._frame: Any = None
        self._piece = b""
        self._content = memoryview(b"")

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            piece = self._piece or self._file.read(_ZSTD_PIECE_BYTES)
            if not piece:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._content, self._piece = memoryview(self._frame.decompress(piece)), b""
            if self._frame.eof:
                self._piece, self._frame = self._frame.unused_data, None
        num_read = min(len(buffer), len(self._content))
        buffer[:num_read] = self._content[:num_read]
        self._content = self._content[num_read:]
        return num_read


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

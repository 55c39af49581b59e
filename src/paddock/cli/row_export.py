"""A dataset's rows as a local file: JSON lines, each row as it is stored, or Parquet. The file is there once it is whole."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from paddock.datasets import parquet_export

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def check(path: Path) -> None:
    """Raise `ClickException` if nothing can be written under this name."""
    if not path.name.endswith(SUFFIXES):
        raise click.ClickException(f"{path} names no format that rows are written in: {', '.join(SUFFIXES)}.")
    needed = {".parquet": ("pyarrow", "parquet"), ".zst": ("zstandard", "zstd")}.get(path.suffix)
    if needed is not None:
        library, extra = needed
        try:
            __import__(library)
        except ImportError:
            raise click.ClickException(
                f"{path.suffix} is written with {library}, which is not installed: install Paddock with its extra "
                f"`{extra}`."
            ) from None


def write(path: Path, texts: Iterable[bytes]) -> list[str]:
    """Write rows, given as JSON texts, in the format that the name says. Returns the columns that had to become JSON."""
    part = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".parquet":
            as_json = parquet_export.write(part, map(one_line, texts))
        else:
            as_json = []
            with _opened(path.suffix, part) as file:
                for text in texts:
                    file.write(one_line(text) + b"\n")
        part.replace(path)
    except ValueError as error:
        raise click.ClickException(f"{error} Export JSON lines.") from None
    finally:
        part.unlink(missing_ok=True)
    return as_json


def one_line(text: bytes) -> bytes:
    """A JSON text without line breaks, which stand between its tokens only."""
    return text.translate(_LINE_BREAKS)


@contextlib.contextmanager
def _opened(suffix: str, path: Path) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if suffix == ".gz":
            # No time of day in it: the same rows are the same file.
            file = stack.enter_context(gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0))
        elif suffix == ".zst":
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor().stream_writer(file, closefd=False))
        yield file

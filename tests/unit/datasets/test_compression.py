from __future__ import annotations

import gzip
import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from paddock.datasets import formats
from paddock.datasets.rows import SourceError

LINES = b"".join(b'{"n": %d.10}\n' % n for n in range(5000))
TEXTS = LINES.decode().splitlines()


def _texts(content: bytes, *names: str) -> list[str]:
    return list(formats.read(names, io.BytesIO(content), {}).texts)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed_files_are_read_like_others(compress) -> None:
    assert _texts(compress(LINES), "jsonl") == TEXTS
    assert _texts(compress(LINES), "gzip", "") == TEXTS
    assert _texts(compress(LINES[:2000]) + compress(LINES[2000:]), "jsonl") == TEXTS  # one behind the other
    assert _texts(compress(b"[" + LINES[:-1].replace(b"\n", b",") + b"]"), "") == TEXTS
    assert _texts(compress(b"a\n1\n"), "csv") == ['{"a":"1"}']


def test_formats_that_are_read_here_and_there_are_unfolded_first() -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"i": list(range(3000))}), file)
    for compress in (gzip.compress, zstandard.compress):
        assert _texts(compress(file.getvalue()), "x-gzip", "parquet") == [f'{{"i":{i}}}' for i in range(3000)]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_broken_compression_is_said(compress) -> None:
    content = compress(bytes(range(256)) * 4000)
    for broken in (content[: len(content) // 2], content[:50] + b"\0" * 50):
        with pytest.raises(SourceError, match=r"compression is broken after \d+ bytes|not valid"):
            _texts(broken, "jsonl")


def test_a_cut_file_does_not_pass_for_a_shorter_one() -> None:
    for compress in (gzip.compress, zstandard.compress):
        content = compress(LINES)
        with pytest.raises(SourceError):
            _texts(content[:-20], "jsonl")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_bombs_are_not_unfolded(compress) -> None:
    bomb = compress(b'{"a":1}\n' + b" " * 30_000_000)
    with pytest.raises(SourceError, match="compressed beyond measure"):
        _texts(bomb, "jsonl")


def test_without_zstandard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = zstandard.compress(LINES)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(SourceError, match="its extra `zstd`"):
        _texts(content, "jsonl")

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from paddock.datasets.rows import SourceError
from paddock.datasets.sources import Access, open_source

LINES = b'{"a": 1.10}\n{"a":"\xc3\xa9 %"}\n'
TEXTS = ['{"a": 1.10}', '{"a":"é %"}']


def _read(uri: str, *roots: Path) -> list[str]:
    with open_source(uri, Access(roots)) as source:
        return list(source.texts)


@pytest.mark.parametrize(
    "media_type", ["application/jsonl", "application/x-ndjson", "text/plain;charset=utf-8", "", "jsonl"]
)
def test_data_uris(media_type: str) -> None:
    assert _read(f"data:{media_type};base64,{base64.b64encode(LINES).decode()}") == TEXTS
    assert _read(f"data:{media_type},{quote(LINES)}") == TEXTS


def test_data_uris_of_other_formats() -> None:
    assert _read("data:application/json,[{%22a%22:1e400}]") == ['{"a":1e400}']
    assert _read("data:text/csv,a,b%0A1,2") == ['{"a":"1","b":"2"}']
    assert _read("data:csv;base64," + base64.b64encode(b"a\n1\n").decode()) == ['{"a":"1"}']


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:application/json", "no comma"),
        ("data:application/json;base64,!!", "base64 is broken"),
        ("data:text/csv;charset=utf-16,a", "charset is utf-16"),
        ("data:image/png,x", "'png' is no format"),
        ("https://example.org/a.jsonl", "'example.org', a host that the setting `dataset_hosts` does not"),
        ("huggingface://datasets/x?split=train", "does not name huggingface.co"),
        ("s3://bucket/a.jsonl", "'s3://bucket' is none of the buckets"),
        ("ftp://example.org/a.jsonl", r"from the URIs data:, file:, http:, .* not from 'ftp://example.org/a.jsonl'"),
        ("exam.jsonl", "not from 'exam.jsonl'"),
    ],
)
def test_other_uris_are_refused(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _read(uri)


def test_files_below_a_root(root: Path, tmp_path: Path) -> None:
    (root / "deep").mkdir()
    file = root / "deep" / "räum 1.jsonl"
    file.write_bytes(LINES)
    assert _read(file.as_uri(), tmp_path / "elsewhere", root) == TEXTS
    assert _read("file://localhost" + quote(str(file)), root) == TEXTS
    inside = root / "link.jsonl"
    inside.symlink_to(file)
    assert _read(inside.as_uri(), root) == TEXTS
    linked_root = tmp_path / "linked"
    linked_root.symlink_to(root)
    assert _read((linked_root / "link.jsonl").as_uri(), linked_root) == TEXTS


def test_without_roots_the_setting_is_named(root: Path) -> None:
    with pytest.raises(SourceError, match="`dataset_roots`"):
        _read((root / "a.jsonl").as_uri())


def test_files_outside_are_refused_whether_they_are_there_or_not(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(LINES)
    (root / "link.jsonl").symlink_to(secret)
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "a.jsonl").write_bytes(LINES)
    for uri in (
        secret.as_uri(),
        (tmp_path / "absent.jsonl").as_uri(),
        f"{root.as_uri()}/../secret.jsonl",
        f"{root.as_uri()}/%2e%2e/secret.jsonl",
        f"{root.as_uri()}/link.jsonl",
        f"{root.as_uri()}-too/a.jsonl",
    ):
        with pytest.raises(SourceError, match="outside the folders") as raised:
            _read(uri, root)
        assert "secret.jsonl" not in raised.value.detail.replace(uri, "")


def test_only_readable_regular_files_are_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.jsonl")
    (root / "circle").symlink_to(root / "circle")
    for name in ("pipe.jsonl", "circle", "absent.jsonl", "", "x" * 300):
        with pytest.raises(SourceError, match="There is no file to read at"):
            _read(f"{root.as_uri()}/{name}", root)


@pytest.mark.parametrize(
    "uri", ["file:relative.jsonl", "file://host/a.jsonl", "file:///a%00b", "file:///%ff", "file://[a"]
)
def test_file_uris_name_an_absolute_path_here(uri: str, root: Path) -> None:
    with pytest.raises(SourceError, match="absolute path on this machine"):
        _read(uri, root)

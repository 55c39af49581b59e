from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec.registry  # noqa: F401
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from honeypot import Honeypot
from paddock.datasets import remote
from paddock.datasets.remote import LongSourceError
from paddock.datasets.rows import SourceError
from paddock.datasets.sources import Access, open_small, open_source

LINES = b'{"a": 1.10}\n{"a":2}\n'
TEXTS = ['{"a": 1.10}', '{"a":2}']


def _read(uri: str, access: Access) -> list[str]:
    with open_source(uri, access) as source:
        return list(source.texts)


@pytest.fixture
def server() -> Iterator[Honeypot]:
    with Honeypot("127.0.0.1", content=LINES) as server:
        yield server


def test_urls_of_allowed_hosts(server: Honeypot) -> None:
    access = Access(hosts=(f"127.0.0.1:{server.port}",))
    url = f"http://127.0.0.1:{server.port}"
    for path in ("/a.jsonl", "/gzip", "/a.jsonl?signature=x.csv", "/to?url=/a.jsonl"):
        assert _read(url + path, access) == TEXTS, path
        with open_small(url + path, access, {}) as source:
            assert list(source.texts) == TEXTS
    server.content, server.content_type = b"a,b\n1,2\n", "text/csv; charset=utf-8"
    assert _read(url + "/export", access) == ['{"a":"1","b":"2"}']
    server.content_type = "text/html"
    with pytest.raises(SourceError, match="'html' is no format"):
        _read(url + "/login", access)
    assert _read(url + "/a.csv", access) == ['{"a":"1","b":"2"}']
    with pytest.raises(SourceError, match="status 404"):
        _read(url + "/status?404", access)
    num_connections = server.num_connections
    with pytest.raises(SourceError, match="`dataset_hosts`"):
        _read(url + "/a.jsonl", Access(hosts=("127.0.0.1",)))
    assert server.num_connections == num_connections


def test_what_takes_long_is_left_to_a_job(server: Honeypot) -> None:
    access = Access(hosts=(f"127.0.0.1:{server.port}", "s3://b", "huggingface.co"))
    server.content = b"".join(b'{"a":%d}\n' % n for n in range(1_000_000))
    uris = (
        f"http://127.0.0.1:{server.port}/a.jsonl",
        f"http://127.0.0.1:{server.port}/gzip",
        "s3://b/x.jsonl",
        "hf://datasets/x/y?split=z",
    )
    for uri in uris:
        with pytest.raises(LongSourceError), open_small(uri, access, {}) as source:
            list(source.texts)


class Store(MemoryFileSystem):
    """A store in memory that answers to `s3:`, as s3fs does where it is installed."""

    protocol = "s3"
    store = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("s3://", "memory://"))


def test_objects_of_allowed_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Store)
    Store().pipe("/bucket/folder/a.jsonl", LINES)
    access = Access(hosts=("s3://bucket",))
    assert _read("s3://bucket/folder/a.jsonl", access) == TEXTS
    assert _read("S3://bucket/folder/a.jsonl", access) == TEXTS
    with pytest.raises(SourceError, match="no such object"):
        _read("s3://bucket/folder/b.jsonl", access)
    for uri in ("s3://other/folder/a.jsonl", "s3://bucket2/a.jsonl", "s3://bucket@x/a.jsonl", "s3://[x/a", "gs:bucket"):
        with pytest.raises(SourceError, match="none of the buckets"):
            _read(uri, access)
    for uri in ("s3://bucket/a::file:///etc/passwd", "s3://bucket/*.jsonl"):
        with pytest.raises(SourceError, match="An object is named as"):
            _read(uri, access)


def test_a_store_without_its_package_names_it() -> None:
    with pytest.raises(SourceError, match="package gcsfs, which is not installed"):
        _read("gs://bucket/a.jsonl", Access(hosts=("gs://bucket",)))


def test_hub_uris_as_the_reference_spelt_them() -> None:
    assert remote.parse_hub("huggingface://datasets/llamastack/simpleqa?split=train") == (
        "llamastack/simpleqa",
        {"split": "train"},
    )
    assert remote.parse_hub("hf://datasets/squad?split=test%5B%3A10%5D&name=plain&revision=v1.0") == (
        "squad",
        {"split": "test[:10]", "name": "plain", "revision": "v1.0"},
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/a/b", "names its split"),
        ("hf://models/a/b?split=x", "hf://datasets/<owner>/<name>"),
        ("hf://datasets/a/b/c?split=x", "hf://datasets/<owner>/<name>"),
        ("hf://datasets/../etc?split=x", "hf://datasets/<owner>/<name>"),
        ("hf://datasets//etc?split=x", None),
        ("hf://datasets/?split=x", "hf://datasets/<owner>/<name>"),
        ("hf://[x/a?split=x", "hf://datasets/<owner>/<name>"),
        ("hf://datasets/a/b?split=x&trust_remote_code=1", "'trust_remote_code' is none of them"),
        ("hf://datasets/a/b?split=x&token=1", "'token' is none of them"),
        ("hf://datasets/a/b?split=x&data_files=http://127.0.0.1/x", "paths inside the hub's repository"),
        ("hf://datasets/a/b?split=x&data_dir=/etc", "paths inside the hub's repository"),
    ],
)
def test_other_hub_uris_are_refused(uri: str, message: str | None) -> None:
    if message is None:
        assert remote.parse_hub(uri).repository == "etc"
        return
    with pytest.raises(SourceError, match=message):
        remote.parse_hub(uri)


def test_the_hub_is_read_through_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no network in a test: a folder stands for the repository."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    rows = [{"question": f"é {n}", "answer": n, "nested": {"x": [1.5]}} for n in range(2500)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text('{"question":"q","answer":1,"nested":{"x":[]}}\n')
    source = remote.load(str(folder), {"split": "train"})
    assert [json.loads(text) for text in source.texts] == rows
    with pytest.raises(SourceError, match="hub's dataset cannot be read"):
        list(remote.load(str(folder), {"split": "nowhere"}).texts)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="one of its own"):
        _read("hf://datasets/repository?split=train", Access(hosts=("huggingface.co",)))


def test_extensions_look_through_compression() -> None:
    names = ("/a/b.jsonl", "b.jsonl.gz", "b.x.CSV.zst", "b", "b.gz", "/a.b/c", "a%2Ejson")
    assert [remote.extension(name) for name in names] == ["jsonl", "jsonl", "csv", "", "", "", "json"]

"""Hundreds of hostile requests, one after another, at a live server: each gets a clear answer, and it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from contract import hostile
from contract.fuzzing.world import served
from contract.hostile_client import problems, send
from live_server import LiveServer

MAX_BODY_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("hostile")
    with served(folder, tiny_llama, with_jobs=False, max_body_bytes=MAX_BODY_BYTES) as server:
        yield server


def test_the_corpus_is_large_and_each_request_has_a_name() -> None:
    names = [request.name for request in hostile.corpus()]
    assert len(names) >= 300
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", hostile.FAMILIES, ids=lambda family: family.__name__)
def test_each_gets_a_clear_answer(server: LiveServer, family: object) -> None:
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    found = {}
    for request in family():  # type: ignore[operator]
        wrong = list(problems(request, send(server.url, request)))
        if wrong:
            found[request.name] = wrong
    assert found == {}
    assert httpx.get(f"{server.url}/v1/health", timeout=5).json() == {"status": "OK"}
    assert "met a bug" not in server.log
    # What a request of 16 MB is parsed into stays with the allocator, once.
    assert process.memory_info().rss - before < 20 * MAX_BODY_BYTES

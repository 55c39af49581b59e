"""Reranking over HTTP, in both shapes, with the official client and without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from fastapi.testclient import TestClient
from llama_stack_client import LlamaStackClient

from app_server import AppServer
from inference_world import LocalWorld, make_app, remote_engine
from model_server import ModelServer
from paddock.egress import Egress
from paddock.inference.engine import Model
from paddock.inference.local import LocalEngine
from paddock.settings import Settings
from paddock.storage.database import Database

RERANK = "/v1alpha/inference/rerank"


def by_length(body: dict[str, Any]) -> dict[str, Any]:
    """Longer documents are more relevant."""
    results = [{"index": i, "relevance_score": len(str(d))} for i, d in enumerate(body["documents"])]
    return {"results": results}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(by_length) as server:
        yield server


@pytest.fixture
def client(settings: Settings, database: Database, server: ModelServer) -> Iterator[TestClient]:
    app = make_app(settings, database, {"lab": remote_engine(server.base_url)})
    app.state.inference.models.register(Model("ranker", "lab", "ranker-1", "rerank"))
    with TestClient(app) as client:
        yield client
        client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


def rerank(client: TestClient, **fields: Any) -> Any:
    return client.post(RERANK, json={"model": "ranker", "query": "q", "items": ["bb", "a", "ccc"]} | fields)


def test_results_are_sorted_and_ties_keep_their_order(client: TestClient) -> None:
    answer = rerank(client, items=["bb", "a", "ccc", "dd"])
    assert answer.status_code == 200
    assert answer.json() == {
        "data": [
            {"index": 2, "relevance_score": 3.0},
            {"index": 0, "relevance_score": 2.0},
            {"index": 3, "relevance_score": 2.0},
            {"index": 1, "relevance_score": 1.0},
        ]
    }


@pytest.mark.parametrize(("limit", "indices"), [(1, [2]), (2, [2, 0]), (99, [2, 0, 1]), (None, [2, 0, 1])])
def test_max_num_results(client: TestClient, limit: int | None, indices: list[int]) -> None:
    answer = rerank(client, max_num_results=limit)
    assert [result["index"] for result in answer.json()["data"]] == indices


def test_content_parts_reach_the_provider(client: TestClient, server: ModelServer) -> None:
    text = {"type": "text", "text": "long enough"}
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    plain_image = {"image_url": {"url": "https://example.org/b.png"}}
    assert rerank(client, query={"text": "what?"}, items=[text, image, plain_image]).status_code == 200
    body = server.requests[0][1]
    assert body["query"] == "what?"
    images = [image, {"type": "image_url"} | plain_image]
    assert body["documents"] == ["long enough", *({"content": [each]} for each in images)]


@pytest.mark.parametrize(
    ("fields", "status", "pointer"),
    [
        ({"items": []}, 400, "/items"),
        ({"max_num_results": 0}, 400, "/max_num_results"),
        ({"max_num_results": -1}, 400, "/max_num_results"),
        ({"items": [7]}, 400, "/items/0"),
        ({"items": ["a", {"type": "text"}]}, 400, "/items/1"),
        ({"query": None}, 400, "/query"),
        ({"model": "unknown"}, 404, None),
    ],
)
def test_what_cannot_be_ranked(client: TestClient, fields: dict[str, Any], status: int, pointer: str | None) -> None:
    answer = rerank(client, **fields)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    if pointer is not None:
        assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])


def test_a_provider_that_answers_nonsense_is_502(settings: Settings, database: Database) -> None:
    infinite = web.Response(text='{"results": [{"index": 0, "relevance_score": 1e999}]}')
    with ModelServer(lambda body: infinite) as server:
        app = make_app(settings, database, {"lab": remote_engine(server.base_url)})
        app.state.inference.models.register(Model("ranker", "lab", "ranker-1", "rerank"))
        with TestClient(app) as client:
            assert rerank(client, items=["a"]).status_code == 502
            client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


def test_the_shape_of_cohere_and_jina(client: TestClient) -> None:
    body = {"model": "ranker", "query": "q", "documents": ["bb", {"text": "ccc", "title": "C"}, "a"]}
    answer = client.post("/v1/rerank", json=body | {"top_n": 2}).json()
    assert answer["results"] == [{"index": 1, "relevance_score": 3.0}, {"index": 0, "relevance_score": 2.0}]
    assert answer["model"] == "ranker"
    answer = client.post("/v1/rerank", json=body | {"return_documents": True}).json()
    assert [result["document"] for result in answer["results"]] == [
        {"text": "ccc", "title": "C"},
        {"text": "bb"},
        {"text": "a"},
    ]
    for wrong in ({"documents": []}, {"top_n": 0}, {"documents": [{"title": "C"}]}):
        assert client.post("/v1/rerank", json=body | wrong).status_code == 400
    assert client.post("/v1/rerank", json=body | {"model": "unknown"}).status_code == 404


def test_a_client_that_leaves_takes_its_request_back(settings: Settings, database: Database) -> None:
    """The connection to the model's server closes with the client's."""
    left = asyncio.Event

    async def scenario() -> None:
        gone = left()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            while await reader.read(65536):
                pass
            gone.set()
            writer.close()

        slow = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = slow.sockets[0].getsockname()[1]
        app = make_app(settings, database, {"lab": remote_engine(f"http://127.0.0.1:{port}/v1")})
        app.state.inference.models.register(Model("ranker", "lab", "ranker-1", "rerank"))
        with AppServer(app) as server:
            host, _, own_port = server.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(own_port))
            body = b'{"model": "ranker", "query": "q", "items": ["a"]}'
            head = f"POST {RERANK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.close()
            async with asyncio.timeout(10):
                await gone.wait()
        slow.close()

    asyncio.run(scenario())


@pytest.fixture
def minilm_client(settings: Settings, database: Database, local_world: LocalWorld) -> Iterator[TestClient]:
    engine = LocalEngine(local_world.data_dir.engine_socket, local_world.data_dir.checkpoints, Egress(()))
    app = make_app(settings, database, {"local": engine})
    app.state.inference.models.register(local_world.minilm)
    with TestClient(app) as client:
        yield client
        client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


def test_what_was_cut_is_told_in_both_shapes(minilm_client: TestClient) -> None:
    items = ["word " * 400, {"type": "text", "text": "word"}]
    answer = rerank(minilm_client, model="minilm", query="word", items=items).json()["data"]
    assert {result["index"]: result.get("truncated") for result in answer} == {0: True, 1: None}
    assert all("truncated" not in result for result in answer if result["index"] == 1)
    body = {"model": "minilm", "query": "word", "documents": [items[0], "word"]}
    results = minilm_client.post("/v1/rerank", json=body).json()["results"]
    assert {result["index"]: result.get("truncated") for result in results} == {0: True, 1: None}


def test_an_image_for_a_text_model_is_refused_by_its_index(minilm_client: TestClient) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    answer = rerank(minilm_client, model="minilm", items=["a", "b", image])
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/items/2"


def test_the_official_client_ranks_real_passages(
    settings: Settings, database: Database, local_world: LocalWorld
) -> None:
    engine = LocalEngine(local_world.data_dir.engine_socket, local_world.data_dir.checkpoints, Egress(()))
    app = make_app(settings, database, {"local": engine})
    app.state.inference.models.register(local_world.minilm)
    app.router.add_event_handler("shutdown", app.state.inference.close)
    passages = ["Horses eat grass and hay.", "Paris is the capital of France.", "The Seine flows through towns."]
    with AppServer(app) as server:
        client = LlamaStackClient(base_url=server.url)
        results = client.alpha.inference.rerank(
            model="minilm", query="Which city governs France?", items=passages, max_num_results=2
        )
    assert results[0].index == 1
    assert len(results) == 2
    assert results[0].relevance_score > results[1].relevance_score

"""Chat and completions over HTTP, with OpenAI's client and without."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from app_server import AppServer
from inference_world import LocalWorld, make_app, remote_engine
from model_server import ModelServer, last_user_text
from paddock.egress import Egress
from paddock.inference.engine import Model
from paddock.inference.local import LocalEngine
from paddock.settings import Settings
from paddock.storage.database import Database

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "hi"}]


def echo(body: dict[str, Any]) -> str:
    return f"echo {last_user_text(body) if 'messages' in body else body['prompt']}"


@pytest.fixture
def lab() -> Iterator[ModelServer]:
    with ModelServer(echo) as server:
        yield server


@pytest.fixture
def client(settings: Settings, database: Database, lab: ModelServer) -> Iterator[TestClient]:
    app = make_app(settings, database, {"lab": remote_engine(lab.base_url)})
    app.state.inference.models.register(Model("judge", "lab", "judge-1"))
    with TestClient(app) as client:
        yield client
        client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


@pytest.fixture
def openai(settings: Settings, database: Database, local_world: LocalWorld) -> Iterator[OpenAI]:
    """OpenAI's client on a server with local models."""
    engine = LocalEngine(local_world.data_dir.engine_socket, local_world.data_dir.checkpoints, Egress(()))
    app = make_app(settings, database, {"local": engine})
    for model in (local_world.tiny, local_world.checkpoint, local_world.minilm):
        app.state.inference.models.register(model)
    app.router.add_event_handler("shutdown", app.state.inference.close)
    with AppServer(app) as server, OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat(client: TestClient, lab: ModelServer) -> None:
    answer = client.post(CHAT, json={"model": "judge", "messages": USER}).json()
    assert answer["id"].startswith("chatcmpl-")
    del answer["id"], answer["created"]
    assert answer == {
        "object": "chat.completion",
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "echo hi"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    assert lab.requests[0][1] == {"model": "judge-1", "messages": USER, "temperature": 1.0}


def test_every_knob_reaches_the_engine(client: TestClient, lab: ModelServer) -> None:
    knobs = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 9, "repetition_penalty": 1.2, "seed": 3,
        "stop": ["a", "b"],
    }  # fmt: skip
    client.post(CHAT, json={"model": "judge", "messages": USER} | knobs)
    assert lab.requests[-1][1] == {"model": "judge-1", "messages": USER} | knobs
    client.post(CHAT, json={"model": "judge", "messages": USER, "max_completion_tokens": 4, "stop": "x"})
    assert lab.requests[-1][1] == {
        "model": "judge-1", "messages": USER, "temperature": 1.0, "max_tokens": 4, "stop": ["x"],
    }  # fmt: skip


def test_content_parts_and_names_go_through(client: TestClient, lab: ModelServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    messages = [
        {"role": "system", "content": "see"},
        {"role": "user", "content": [{"type": "text", "text": "what?"}, image], "name": "ann"},
    ]
    answer = client.post(CHAT, json={"model": "judge", "messages": messages})
    assert answer.json()["choices"][0]["message"]["content"] == "echo what?"
    assert lab.requests[0][1]["messages"] == messages


def test_choices_come_from_seeds_of_their_own(client: TestClient, lab: ModelServer) -> None:
    answer = client.post(CHAT, json={"model": "judge", "messages": USER, "n": 3, "seed": 10}).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(body["seed"] for _, body, _ in lab.requests) == [10, 11, 12]
    # The prompt counts once.
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


def test_completions_of_several_prompts(client: TestClient) -> None:
    answer = client.post(COMPLETIONS, json={"model": "judge", "prompt": ["a", "b"], "n": 2}).json()
    assert answer["object"] == "text_completion"
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (0, "echo a"), (1, "echo a"), (2, "echo b"), (3, "echo b"),
    ]  # fmt: skip
    assert answer["usage"] == {"prompt_tokens": 14, "completion_tokens": 12, "total_tokens": 26}


def test_no_count_is_no_usage(settings: Settings, database: Database) -> None:
    with ModelServer(lambda body: {"choices": [{"message": {"content": "x"}}]}) as lab:
        app = make_app(settings, database, {"lab": remote_engine(lab.base_url)})
        app.state.inference.models.register(Model("judge", "lab", "judge-1"))
        with TestClient(app) as client:
            assert client.post(CHAT, json={"model": "judge", "messages": USER}).json()["usage"] is None
            client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "fields", "pointer"),
    [
        (CHAT, {"messages": []}, "/messages"),
        (CHAT, {"messages": [{"role": "poet", "content": "hi"}]}, "/messages/0/role"),
        (CHAT, {"messages": [{"role": "user"}]}, "/messages/0/content"),
        (CHAT, {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "/messages/0/tool_calls"),
        (CHAT, {"tools": [{"type": "function"}]}, "/tools"),
        (CHAT, {"response_format": {"type": "json_object"}}, "/response_format"),
        (CHAT, {"logprobs": True}, "/logprobs"),
        (CHAT, {"frequency_penalty": 0.5}, "/frequency_penalty"),
        (COMPLETIONS, {"logprobs": 0}, "/logprobs"),
        (COMPLETIONS, {"echo": True}, "/echo"),
        (COMPLETIONS, {"best_of": 3}, "/best_of"),
        (COMPLETIONS, {"prompt": []}, "/prompt"),
        (COMPLETIONS, {"prompt": [1, 2]}, "/prompt"),
        *[
            (path, {name: value}, f"/{name}")
            for path in (CHAT, COMPLETIONS)
            for name, value in [
                ("temperature", -0.1), ("top_p", 0), ("top_p", 1.1), ("top_k", 0), ("max_tokens", 0), ("n", 0),
                ("n", 9), ("repetition_penalty", 0), ("stop", ""), ("stop", ["x", ""]), ("seed", 2**63),
            ]
        ],
    ],
)  # fmt: skip
def test_what_is_refused(client: TestClient, lab: ModelServer, path: str, fields: dict[str, Any], pointer: str) -> None:
    body = {"model": "judge"} | ({"messages": USER} if path == CHAT else {"prompt": "hi"}) | fields
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert lab.requests == []


def test_fields_that_ask_for_nothing_are_fine(client: TestClient) -> None:
    neutral = {
        "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False,
        "frequency_penalty": 0, "presence_penalty": 0.0, "n": 1, "user": "ann", "stop": None,
    }  # fmt: skip
    assert client.post(CHAT, json={"model": "judge", "messages": USER} | neutral).status_code == 200
    body = {"model": "judge", "prompt": "hi", "echo": False, "suffix": None, "best_of": 1}
    assert client.post(COMPLETIONS, json=body).status_code == 200


def test_one_failure_of_several_is_the_answer(settings: Settings, database: Database) -> None:
    numbers = itertools.count()

    def answer(body: dict[str, Any]) -> Any:
        return "fine" if next(numbers) else {"choices": []}

    with ModelServer(answer) as lab:
        app = make_app(settings, database, {"lab": remote_engine(lab.base_url)})
        app.state.inference.models.register(Model("judge", "lab", "judge-1"))
        with TestClient(app) as client:
            assert client.post(CHAT, json={"model": "judge", "messages": USER, "n": 4}).status_code == 502
            client.portal.call(app.state.inference.close)  # type: ignore[union-attr]


def test_the_framing_of_a_stream(client: TestClient) -> None:
    body = {"model": "judge", "messages": USER, "stream": True, "stream_options": {"include_usage": True}}
    answer = client.post(CHAT, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last = answer.text.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "echo hi"}, "finish_reason": "stop"}],
        [],
    ]
    assert chunks[-1]["usage"]["total_tokens"] == 10


@pytest.mark.parametrize("agent", ["LlamaStackClient/Python 0.3.5", "AsyncLlamaStackClient/Python 0.4.7"])
def test_a_llama_stack_client_sees_no_end_mark(client: TestClient, agent: str) -> None:
    body = {"model": "judge", "messages": USER, "stream": True}
    answer = client.post(CHAT, json=body, headers={"User-Agent": agent})
    (event,) = answer.text.removesuffix("\n\n").split("\n\n")
    assert json.loads(event.removeprefix("data: "))["choices"][0]["delta"]["content"] == "echo hi"


def test_openais_client_with_a_local_model(openai: OpenAI) -> None:
    whole = openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12
    )
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == "length"
    stream = openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12, stream=True
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"
    adapted = openai.chat.completions.create(
        model="tiny:epoch-1", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12
    )
    assert adapted.choices[0].message.content != whole.choices[0].message.content


def test_openais_client_with_completions(openai: OpenAI) -> None:
    first = openai.completions.create(model="tiny", prompt="abc", max_tokens=8, seed=5, n=2)
    again = openai.completions.create(model="tiny", prompt="abc", max_tokens=8, seed=5, n=2)
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices]
    assert texts[0] != texts[1]
    streamed = openai.completions.create(model="tiny", prompt="abc", max_tokens=8, seed=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == texts[0]


def test_openais_client_is_told_what_is_wrong(openai: OpenAI) -> None:
    user: Any = {"role": "user", "content": "hi"}
    image: Any = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    calls: list[tuple[type[APIStatusError], str, Callable[[], object]]] = [
        (NotFoundError, "no model 'other'", lambda: openai.chat.completions.create(model="other", messages=[user])),
        (NotFoundError, "other", lambda: openai.completions.create(model="other", prompt="hi", stream=True)),
        (
            BadRequestError,
            "does not generate text",
            lambda: openai.chat.completions.create(model="minilm", messages=[user], stream=True),
        ),
        (
            BadRequestError,
            "Part 0 of message 0",
            lambda: openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [image]}]),
        ),
    ]
    for error, words, call in calls:
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value.body, dict)
        assert words in caught.value.body["detail"]

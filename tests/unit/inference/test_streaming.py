"""Streams of chat and completions, with OpenAI's client and without: from models of this machine and from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai import APIError, InternalServerError, OpenAI

from app_server import AppServer
from inference_world import LocalWorld, make_app, remote_engine
from model_server import ModelServer
from paddock.egress import Egress
from paddock.inference.engine import Model, Sampling
from paddock.inference.local import LocalEngine
from paddock.settings import Settings
from paddock.storage.database import Database

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SENTENCE = "words that come one by one"
USER: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def lab() -> Iterator[ModelServer]:
    with ModelServer(lambda _body: SENTENCE) as server:
        yield server


@pytest.fixture
def server(settings: Settings, database: Database, local_world: LocalWorld, lab: ModelServer) -> Iterator[AppServer]:
    """`tiny` and its checkpoint are local, `judge` is somebody else's."""
    local = LocalEngine(local_world.data_dir.engine_socket, local_world.data_dir.checkpoints, Egress(()))
    app = make_app(settings, database, {"local": local, "lab": remote_engine(lab.base_url)})
    for model in (local_world.tiny, local_world.checkpoint, local_world.minilm, Model("judge", "lab", "judge-1")):
        app.state.inference.models.register(model)
    app.router.add_event_handler("shutdown", app.state.inference.close)
    with AppServer(app) as server:
        yield server


@pytest.fixture
def openai(server: AppServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def events(server: AppServer, path: str, body: dict[str, Any], **headers: str) -> list[str]:
    answer = httpx.post(server.url + path, json=body | {"stream": True}, headers=headers, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    return [event.removeprefix("data: ") for event in answer.text.removesuffix("\n\n").split("\n\n")]


def test_the_framing_of_a_chat(server: AppServer) -> None:
    body = {"model": "judge", "messages": USER, "stream_options": {"include_usage": True}}
    *found, last = events(server, CHAT, body)
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in found]
    assert len({(chunk["id"], chunk["object"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    deltas = [(choice["delta"], choice["finish_reason"]) for chunk in chunks for choice in chunk["choices"]]
    words = [f"{word} " for word in SENTENCE.split()[:-1]] + ["one"]
    assert deltas == [
        ({"role": "assistant", "content": ""}, None), *(({"content": word}, None) for word in words), ({}, "stop"),
    ]  # fmt: skip
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_usage_is_told_to_those_who_ask(server: AppServer) -> None:
    for event in events(server, CHAT, {"model": "judge", "messages": USER})[:-1]:
        assert "usage" not in json.loads(event)


def test_the_framing_of_completions(server: AppServer) -> None:
    *found, last = events(server, COMPLETIONS, {"model": "judge", "prompt": ["a", "b"], "n": 2})
    assert last == "[DONE]"
    texts, ends = [""] * 4, [""] * 4
    for chunk in map(json.loads, found):
        assert chunk["object"] == "text_completion"
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] += choice["finish_reason"] or ""
    assert texts == [SENTENCE] * 4
    assert ends == ["stop"] * 4


@pytest.mark.parametrize("agent", ["LlamaStackClient/Python 0.3.5", "AsyncLlamaStackClient/Python 0.4.7"])
def test_a_llama_stack_client_sees_no_end_mark(server: AppServer, agent: str) -> None:
    found = events(server, CHAT, {"model": "judge", "messages": USER}, **{"User-Agent": agent})
    assert json.loads(found[-1])["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("model", ["tiny", "tiny:epoch-1"])
def test_openais_client_streams_from_a_local_model(openai: OpenAI, model: str) -> None:
    knobs: dict[str, Any] = {"model": model, "messages": USER, "temperature": 1, "seed": 4, "max_tokens": 40}
    whole = openai.chat.completions.create(**knobs)
    chunks = list(openai.chat.completions.create(**knobs, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage == whole.usage
    pieces = [chunk.choices[0].delta.content for chunk in chunks[:-1]]
    assert "".join(filter(None, pieces)) == whole.choices[0].message.content
    assert len(list(filter(None, pieces))) > 2  # what came while the reader was busy comes together
    assert chunks[-2].choices[0].finish_reason == "length"


def test_openais_client_streams_from_a_remote_model(openai: OpenAI, lab: ModelServer) -> None:
    lab.pause_seconds = 0.2
    came_at = []
    text = ""
    for chunk in openai.chat.completions.create(model="judge", messages=USER, stream=True):
        if chunk.choices[0].delta.content:
            came_at.append(time.monotonic())
            text += chunk.choices[0].delta.content
    assert text == SENTENCE
    assert came_at[-1] - came_at[0] > 0.8  # as they came, not at the end
    asked = lab.requests[-1][1]
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


def test_completions_stream_what_they_would_say_in_one(openai: OpenAI) -> None:
    knobs: dict[str, Any] = {"model": "tiny", "prompt": "abc", "max_tokens": 30, "seed": 5, "n": 3}
    whole = openai.completions.create(**knobs)
    texts = [""] * 3
    for chunk in openai.completions.create(**knobs, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_pieces_come_before_the_end(server: AppServer, local_world: LocalWorld) -> None:
    """The first is here while most are yet to be made."""
    body = {"model": "tiny", "prompt": "abc", "max_tokens": 450, "seed": 1, "stream": True}
    with httpx.stream("POST", server.url + COMPLETIONS, json=body, timeout=60) as answer:
        started_at = time.monotonic()
        lines = answer.iter_lines()
        next(lines)
        first_after = time.monotonic() - started_at
        num_chunks = sum(line.startswith("data: ") for line in lines)
        seconds = time.monotonic() - started_at
    assert num_chunks > 10  # each as its reader is there; what came meanwhile comes together
    assert first_after < seconds / 2


def test_a_client_that_leaves_takes_its_request_back(
    server: AppServer, local_world: LocalWorld, lab: ModelServer
) -> None:
    lab.pause_seconds = 0.3
    many = {"n": 8, "max_tokens": 480, "stream": True}
    for path, body in (
        (CHAT, {"model": "judge", "messages": USER, "stream": True}),
        *[(COMPLETIONS, {"model": "tiny", "prompt": "abc", "seed": seed} | many) for seed in range(4)],
    ):
        with httpx.stream("POST", server.url + path, json=body, timeout=60) as answer:
            next(answer.iter_lines())
    deadline = time.monotonic() + 10
    while not lab.num_left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lab.num_left == 1
    # The 32 rows of eight hundred steps that would go before it are no more.
    started_at = time.monotonic()
    local_world.ask(lambda engine: engine.complete(local_world.tiny, "abc", Sampling(max_tokens=480)))
    alone = time.monotonic() - started_at
    started_at = time.monotonic()
    local_world.ask(lambda engine: engine.complete(local_world.tiny, "abc", Sampling(max_tokens=480)))
    assert alone < 3 * (time.monotonic() - started_at) + 0.5


def test_what_fails_before_the_first_piece_is_an_ordinary_error(server: AppServer, lab: ModelServer) -> None:
    lab.answer = lambda _body: web.json_response({"error": {"message": "too long"}}, status=400)
    for body, status in (
        ({"model": "judge", "messages": USER}, 400),
        ({"model": "nobody", "messages": USER}, 404),
        ({"model": "minilm", "messages": USER}, 400),
        ({"model": "tiny", "messages": [{"role": "user", "content": "x" * 600}]}, 400),
    ):
        answer = httpx.post(server.url + CHAT, json=body | {"stream": True}, timeout=60)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")


def event_stream(*choices: dict[str, Any], end: str = "") -> web.Response:
    """A remote answer in events, with something behind the last of them."""
    written = "".join(f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices)
    return web.Response(text=written + end, content_type="text/event-stream")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("", "broke off"),
        ('data: {"error": {"message": "secret"}}\n\n', "an error of its own"),
        ("data: <html>\n\n", "cannot be read"),
    ],
)
def test_what_fails_later_is_an_event_that_openais_client_raises(
    openai: OpenAI, lab: ModelServer, end: str, words: str
) -> None:
    lab.answer = lambda _body: event_stream({"delta": {"content": "well"}}, end=end)
    read = ""
    with pytest.raises(APIError, match=words) as caught:
        for chunk in openai.chat.completions.create(model="judge", messages=USER, stream=True):
            read += chunk.choices[0].delta.content or ""
    assert read == "well"
    assert "secret" not in str(caught.value)
    assert len(lab.requests) == 1  # who has read the beginning does not want another


def test_an_engine_that_is_killed_breaks_streams_off(openai: OpenAI, local_world: LocalWorld) -> None:
    stream = openai.completions.create(model="tiny", prompt="abc", max_tokens=480, seed=1, stream=True, n=8)
    next(iter(stream))
    pid = local_world.host.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(APIError, match="ended before it answered") as caught:
        list(stream)
    assert caught.value.code == "502"
    again = openai.completions.create(model="tiny", prompt="abc", temperature=0, max_tokens=3, stream=True)
    assert [chunk.choices[0].finish_reason for chunk in again][-1] == "length"


def test_an_engine_that_is_killed_is_502_to_whoever_waits(openai: OpenAI, local_world: LocalWorld) -> None:
    """Those that wait for a whole answer get an ordinary error; the next request finds a new engine."""
    stream = openai.completions.create(model="tiny", prompt="abc", max_tokens=480, seed=1, stream=True)
    next(iter(stream))
    pid = local_world.host.pid
    assert pid is not None
    with ThreadPoolExecutor() as pool:
        # More than can be done together: most still wait when the first pieces have come.
        waiting = pool.submit(openai.completions.create, model="tiny", prompt=["b"] * 32, max_tokens=480, seed=2)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InternalServerError) as caught:
            waiting.result(60)
    assert caught.value.status_code == 502
    # An engine that ended right after its start, as it did in the test before, may be given a second.
    assert (
        openai.with_options(max_retries=5).completions.create(model="tiny", prompt="b", max_tokens=2).usage is not None
    )


def test_a_server_that_knows_no_streams_answers_in_one_piece(openai: OpenAI, lab: ModelServer) -> None:
    choice = {"message": {"content": "all at once"}, "finish_reason": "length"}
    lab.answer = lambda _body: {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    chunks = list(openai.chat.completions.create(model="judge", messages=USER, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "all at once", None]
    assert chunks[-1].choices[0].finish_reason == "length"

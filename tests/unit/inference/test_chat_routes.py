"""Chat and completions over HTTP, with OpenAI's client and without."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from fastapi.testclient import TestClient
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from app_server import AppServer
from inference_world import LocalWorld, make_app, remote_engine
from model_server import ModelServer, last_user_text
from paddock.egress import Egress
from paddock.errors import InvalidRequestError
from paddock.inference.engine import Model, Sampling
from paddock.inference.local import LocalEngine
from paddock.settings import Settings
from paddock.storage.database import Database

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NO_TOOL = {"type": "function", "function": {"name": "subtract"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


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
        (CHAT, {"messages": [{"role": "user", "content": "", "tool_calls": [CALL]}]}, "/messages/0/tool_calls"),
        (CHAT, {"tools": [{"type": "function"}]}, "/tools"),
        (CHAT, {"tools": [TOOL, TOOL]}, "/tools/1/function/name"),
        (CHAT, {"tools": [TOOL], "tool_choice": NO_TOOL}, "/tool_choice/function/name"),
        (CHAT, {"tool_choice": "required"}, "/tool_choice"),
        (CHAT, {"messages": [{"role": "tool", "content": "7"}]}, "/messages/0/tool_call_id"),
        (CHAT, {"response_format": {"type": "xml"}}, "/response_format"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "/response_format/json_schema"),
        (CHAT, {"top_logprobs": 3}, "/top_logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "/top_logprobs"),
        (CHAT, {"frequency_penalty": 0.5}, "/frequency_penalty"),
        (CHAT, {"logit_bias": {"5": 1}}, "/logit_bias"),
        (CHAT, {"parallel_tool_calls": False}, "/parallel_tool_calls"),
        (CHAT, {"functions": [{}]}, "/functions"),
        (CHAT, {"modalities": ["text", "audio"]}, "/modalities"),
        (CHAT, {"audio": {}}, "/audio"),
        (CHAT, {"prediction": {}}, "/prediction"),
        (CHAT, {"reasoning_effort": "low"}, "/reasoning_effort"),
        (CHAT, {"verbosity": "low"}, "/verbosity"),
        (CHAT, {"web_search_options": {}}, "/web_search_options"),
        (COMPLETIONS, {"logprobs": 6}, "/logprobs"),
        (COMPLETIONS, {"logprobs": True}, "/logprobs"),
        (COMPLETIONS, {"suffix": "."}, "/suffix"),
        (COMPLETIONS, {"echo": "yes"}, "/echo"),
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
        "parallel_tool_calls": True, "modalities": ["text"],
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


def test_openais_client_with_a_local_model(openai: OpenAI) -> None:
    whole = openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12
    )
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == "length"
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


def test_log_probabilities_of_a_local_model(openai: OpenAI) -> None:
    greedy: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 6}
    chat: Any = {"messages": USER, "logprobs": True, "top_logprobs": 3}
    log_probs = openai.chat.completions.create(**greedy, **chat).choices[0].logprobs
    assert log_probs is not None
    assert log_probs.content is not None
    assert len(log_probs.content) == 6
    for token in log_probs.content:
        # Greedy takes the likeliest, and it comes first.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert [likely.logprob for likely in token.top_logprobs] == sorted(
            (likely.logprob for likely in token.top_logprobs), reverse=True
        )
        assert token.logprob < 0
    streamed = [
        token
        for chunk in openai.chat.completions.create(**greedy, **chat, stream=True)
        if chunk.choices[0].logprobs is not None
        for token in chunk.choices[0].logprobs.content or ()
    ]
    assert streamed == log_probs.content
    text = openai.completions.create(**greedy, prompt="abc", logprobs=2).choices[0]
    assert text.logprobs is not None
    assert len(text.logprobs.tokens or ()) == len(text.logprobs.token_logprobs or ()) == 6
    assert all(len(likely) <= 2 for likely in text.logprobs.top_logprobs or ())
    assert (text.logprobs.text_offset or ())[:2] == [0, len((text.logprobs.tokens or ())[0])]
    assert openai.completions.create(**greedy, prompt="abc").choices[0].logprobs is None


def test_a_local_model_echoes_the_prompt(openai: OpenAI, local_world: LocalWorld) -> None:
    prompt, more = "abc def", " ghi jk"
    body: dict[str, Any] = {"model": "tiny", "prompt": prompt + more, "temperature": 0, "logprobs": 2, "echo": True}
    alone = openai.completions.create(**body, max_tokens=0)
    choice = alone.choices[0]
    assert (choice.text, choice.finish_reason) == (prompt + more, "length")
    assert alone.usage is not None
    assert alone.usage.completion_tokens == 0
    assert choice.logprobs is not None
    tokens, log_probs = choice.logprobs.tokens or [], choice.logprobs.token_logprobs or []
    assert len(tokens) == len(log_probs) == len(choice.logprobs.top_logprobs or ()) == alone.usage.prompt_tokens
    first: tuple[Any, Any] = (log_probs[0], (choice.logprobs.top_logprobs or [{}])[0])
    assert first == (None, None)
    expected = local_world.ask(lambda engine: engine.log_likelihoods(local_world.tiny, prompt, [more]))
    assert sum(log_probs[-expected.num_tokens[0] :]) == pytest.approx(expected.log_likelihoods[0], abs=1e-4)

    goes_on = openai.completions.create(**body, max_tokens=4).choices[0]
    continuation = openai.completions.create(**(body | {"echo": False}), max_tokens=4).choices[0]
    assert goes_on.text == choice.text + continuation.text
    assert goes_on.logprobs is not None
    assert continuation.logprobs is not None
    assert (goes_on.logprobs.tokens or [])[len(tokens) :] == continuation.logprobs.tokens
    assert (goes_on.logprobs.token_logprobs or [])[1:] == pytest.approx(
        log_probs[1:] + (continuation.logprobs.token_logprobs or []), abs=1e-4
    )
    chunks = [chunk.choices[0] for chunk in openai.completions.create(**body, max_tokens=4, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == goes_on.text
    assert [t for c in chunks if c.logprobs for t in c.logprobs.tokens or ()] == goes_on.logprobs.tokens
    assert openai.completions.create(model="tiny", prompt="abc", max_tokens=0, echo=True).choices[0].text == "abc"


def test_a_prompt_that_fills_the_context_is_echoed(local_world: LocalWorld) -> None:
    def ask(prompt: str, max_tokens: int) -> str:
        sampling = Sampling(max_tokens=max_tokens, num_likely=0)
        return local_world.ask(lambda engine: engine.complete(local_world.tiny, prompt, sampling, echo=True)).text

    with pytest.raises(InvalidRequestError) as caught:
        ask("x" * 600, 0)
    num_tokens, context = map(int, re.findall(r"\d+", caught.value.detail))
    prompt = "x" * (context - (num_tokens - 600))
    assert ask(prompt, 0) == prompt
    with pytest.raises(InvalidRequestError, match=f"has {context} tokens, and the context of tiny holds {context}"):
        ask(prompt, 1)


def test_a_remote_model_echoes_the_prompt(client: TestClient, lab: ModelServer) -> None:
    log_probs = {
        "tokens": ["a", " b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" b": -0.5}],
        "text_offset": [0, 1],
    }
    lab.answer = lambda _body: {"choices": [{"text": "a b", "finish_reason": "length", "logprobs": log_probs}]}
    body = {"model": "judge", "prompt": "a b", "echo": True, "max_tokens": 0, "logprobs": 1}
    choice = client.post(COMPLETIONS, json=body).json()["choices"][0]
    assert (choice["text"], choice["logprobs"]) == ("a b", log_probs)
    asked = lab.requests[-1][1]
    assert (asked["echo"], asked["max_tokens"], asked["logprobs"]) == (True, 0, 1)
    refused = client.post(COMPLETIONS, json=body | {"prompt": "another"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/echo")


def test_openais_client_gets_json_of_a_schema(openai: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    formatted: Any = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema, "strict": True}}
    for stream in (False, True):
        answer = openai.chat.completions.create(
            model="tiny:epoch-1", messages=USER, response_format=formatted, max_tokens=200, stream=stream  # type: ignore[arg-type]
        )  # fmt: skip
        chunks: Any = answer if stream else [answer]
        text = "".join((c.choices[0].delta if stream else c.choices[0].message).content or "" for c in chunks)
        assert 1 <= json.loads(text)["n"] <= 9
    with pytest.raises(BadRequestError) as caught:
        formatted["json_schema"]["schema"] = {"type": "nothing"}
        openai.chat.completions.create(model="tiny", messages=USER, response_format=formatted)
    assert caught.value.body["errors"][0]["pointer"] == "/response_format/json_schema/schema"  # type: ignore[index]
    with pytest.raises(BadRequestError) as caught:
        openai.chat.completions.create(model="tiny", messages=USER, tools=[TOOL])  # type: ignore[list-item]
    assert caught.value.body["errors"][0]["pointer"] == "/tools"  # type: ignore[index]


def test_tools_and_formats_go_through_to_a_remote_model(client: TestClient, lab: ModelServer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    lab.answer = lambda _body: {
        "choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]
    }
    turns = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "7", "tool_call_id": "call_1"},
    ]
    formatted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    named = {"type": "function", "function": {"name": "add"}}
    other = {"type": "function", "function": {"name": "other"}}
    for choice, sent in ((None, "auto"), ("auto", "auto"), ("required", "required"), (named, named)):
        body = {"model": "judge", "messages": turns, "tools": [TOOL, other], "tool_choice": choice}
        answer = client.post(CHAT, json=body | {"response_format": formatted}).json()
        asked = lab.requests[-1][1]
        assert (asked["messages"], asked["tools"], asked["tool_choice"]) == (turns, [TOOL, other], sent)
        assert asked["response_format"] == formatted
        assert answer["choices"][0] == {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [call]},
            "finish_reason": "tool_calls",
            "logprobs": None,
        }
    client.post(CHAT, json={"model": "judge", "messages": USER, "tools": [TOOL], "tool_choice": "none"})
    assert "tools" not in lab.requests[-1][1]


def test_calls_of_a_remote_stream_come_whole(client: TestClient, lab: ModelServer) -> None:
    def part(index: int, **function: str) -> dict[str, Any]:
        identified = {"id": f"c{index}", "type": "function"} if "name" in function else {}
        return {"delta": {"tool_calls": [{"index": index, **identified, "function": function}]}}

    parts = [part(0, name="f", arguments=""), part(0, arguments='{"a'), part(0, arguments='": 1}'), part(1, name="g")]
    events = [{"choices": [choice]} for choice in [*parts, {"delta": {}, "finish_reason": "tool_calls"}]]
    lab.answer = lambda _body: web.Response(
        text="".join(f"data: {json.dumps(event)}\n\n" for event in events), content_type="text/event-stream"
    )
    body = {"model": "judge", "messages": USER, "tools": [TOOL], "stream": True}
    chunks = [
        json.loads(line[6:]) for line in client.post(CHAT, json=body).text.splitlines() if line[6:].startswith("{")
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [(c["index"], c["id"], c["function"]) for d in deltas for c in d.get("tool_calls", ())] == [
        (0, "c0", {"name": "f", "arguments": '{"a": 1}'}),
        (1, "c1", {"name": "g", "arguments": "{}"}),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_log_probabilities_of_a_remote_model(client: TestClient, lab: ModelServer) -> None:
    likely = {"token": "x", "logprob": -0.1, "bytes": [120]}
    tokens = [likely | {"top_logprobs": [likely]}]
    lab.answer = lambda _body: {"choices": [{"message": {"content": "x"}, "logprobs": {"content": tokens}}]}
    answer = client.post(CHAT, json={"model": "judge", "messages": USER, "logprobs": True, "top_logprobs": 1}).json()
    assert answer["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}
    assert (lab.requests[-1][1]["logprobs"], lab.requests[-1][1]["top_logprobs"]) == (True, 1)
    log_probs = {"tokens": ["x"], "token_logprobs": [-0.1], "top_logprobs": [{"x": -0.1}], "text_offset": [0]}
    lab.answer = lambda _body: {"choices": [{"text": "x", "logprobs": log_probs}]}
    answer = client.post(COMPLETIONS, json={"model": "judge", "prompt": "a", "logprobs": 1}).json()
    assert answer["choices"][0]["logprobs"] == log_probs
    assert lab.requests[-1][1]["logprobs"] == 1
    lab.answer = lambda _body: {"choices": [{"text": "x", "logprobs": log_probs | {"token_logprobs": []}}]}
    assert client.post(COMPLETIONS, json={"model": "judge", "prompt": "a", "logprobs": 1}).status_code == 502


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

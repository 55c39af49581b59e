"""The client of other people's model servers: what it sends, what it believes, when it tries again."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from aiohttp import web

from model_server import ModelServer
from paddock.errors import BackendAwayError, BackendError, BackendSetupError, BackendTimeoutError, InvalidRequestError
from paddock.inference import remote
from paddock.inference.engine import Likelihoods, Model, Piece, Sampling
from paddock.inference.remote import RemoteEngine
from paddock.settings import Provider, RemoteConfig

MODEL = Model("judge", "lab", "org/judge-1")
USER = [{"role": "user", "content": "hi"}]
T = TypeVar("T")


def ask(base_url: str, call: Callable[[RemoteEngine], Coroutine[Any, Any, T]], **config: Any) -> T:
    async def with_engine() -> T:
        config.setdefault("api_key", "secret-key")
        remote = RemoteConfig(base_url=base_url, **config)
        engine = RemoteEngine(Provider(provider_id="lab", provider_type="remote::openai", config=remote))
        try:
            return await call(engine)
        finally:
            await engine.close()

    return asyncio.run(with_engine())


def chat(base_url: str, sampling: Sampling = Sampling(), **config: Any) -> Any:
    return ask(base_url, lambda engine: engine.chat(MODEL, USER, sampling), **config)


def rerank(base_url: str, items: list[Any], query: Any = "q") -> list[float]:
    return ask(base_url, lambda engine: engine.rerank(MODEL, query, items)).scores


def failing(*statuses: int, headers: dict[str, str] | None = None, body: Any = None) -> Callable[[Any], Any]:
    """An answer that fails with these statuses in turn, then succeeds."""
    numbers = itertools.count()

    def answer(_body: Any) -> str | web.Response:
        number = next(numbers)
        if number >= len(statuses):
            return "at last"
        return web.json_response(body or {}, status=statuses[number], headers=headers)

    return answer


def test_a_chat_and_its_answer() -> None:
    with ModelServer(lambda body: "hello") as server:
        answer = chat(server.base_url)
        (path, body, headers) = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body == {"model": "org/judge-1", "messages": USER, "temperature": 0.0}
    assert headers["Authorization"] == "Bearer secret-key"
    assert (answer.text, answer.finish_reason, answer.num_prompt_tokens, answer.num_generated_tokens) == (
        "hello", "stop", 7, 3,
    )  # fmt: skip
    assert answer.latency_seconds > 0


def test_every_knob_is_sent_when_it_is_set() -> None:
    sampling = Sampling(0.7, 0.9, 40, 12, 1.1, ("\n", "END"), 5)
    with ModelServer(lambda body: "x") as server:
        ask(server.base_url, lambda engine: engine.complete(MODEL, "once", sampling))
        (path, body, _) = server.requests[0]
    assert path == "/v1/completions"
    assert body == {
        "model": "org/judge-1", "prompt": "once", "temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_tokens": 12,
        "repetition_penalty": 1.1, "stop": ["\n", "END"], "seed": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"message": {"content": "cut"}, "finish_reason": "length"}, "cut", "length"),
        ({"message": {"content": "done"}, "finish_reason": "eos"}, "done", "stop"),
        ({"message": {"content": None}, "finish_reason": "stop"}, "", "stop"),
    ],
)
def test_answers_without_what_may_be_absent(choice: dict[str, Any], text: str, reason: str) -> None:
    with ModelServer(lambda body: {"choices": [choice]}) as server:
        answer = chat(server.base_url)
    assert (answer.text, answer.finish_reason, answer.num_prompt_tokens) == (text, reason, None)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>not json</html>"),
        {"choices": []},
        {"choices": [{"message": {"content": 7}}]},
        {"no": "choices"},
        web.Response(body=b'{"choices": [{"message": {"content": "\xff"}}]}'),
    ],
    ids=["html", "empty", "number", "no-choices", "not-utf8"],
)
def test_nonsense_is_a_backend_error(answer: Any) -> None:
    with ModelServer(lambda body: answer) as server, pytest.raises(BackendError) as caught:
        chat(server.base_url)
    assert "127.0.0.1" not in caught.value.detail


async def drop(_piece: Piece) -> None:
    """For who asks for a stream and reads none of it."""


@pytest.mark.parametrize(
    ("call", "repeated", "told"),
    [
        (lambda engine: engine.chat(MODEL, USER, Sampling()), b" " * 5000, "1 MiB in one answer"),
        (lambda engine: engine.complete(MODEL, "x", Sampling()), b" " * 5000, "1 MiB in one answer"),
        (lambda engine: engine.rerank(MODEL, "q", ["a"]), b" " * 5000, "1 MiB in one answer"),
        (lambda engine: engine.log_likelihoods(MODEL, "a", ["b"]), b" " * 5000, "1 MiB in one answer"),
        (lambda engine: engine.chat(MODEL, USER, Sampling(), on_piece=drop), b": " * 5000, "0.5 MiB in one line"),
        (lambda engine: engine.chat(MODEL, USER, Sampling(), on_piece=drop), b": \n" * 5000, "2 MiB in one answer"),
    ],
    ids=["chat", "completion", "rerank", "likelihoods", "line", "stream"],
)
def test_an_answer_without_end_is_given_up(
    call: Callable[[RemoteEngine], Coroutine[Any, Any, Any]],
    repeated: bytes,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "MAX_ANSWER_BYTES", 2**20)
    monkeypatch.setattr(remote, "MAX_EVENT_BYTES", 2**19)
    monkeypatch.setattr(remote, "MAX_STREAM_BYTES", 2**21)
    is_left = threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield repeated
        finally:
            is_left.set()

    def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(body=endless(), content_type="text/event-stream" if "stream" in body else None)

    with ModelServer(answer) as server:
        with pytest.raises(BackendError) as caught:
            ask(server.base_url, call)
        assert caught.value.detail == f"The provider lab sent more than {told}; the rest was not read."
        assert len(server.requests) == 1
        assert is_left.wait(10)


@pytest.mark.parametrize("statuses", [(500,), (503, 429), (502, 500, 503)])
def test_a_server_that_recovers_is_asked_again(statuses: tuple[int, ...]) -> None:
    with ModelServer(failing(*statuses)) as server:
        assert chat(server.base_url).text == "at last"
        assert len(server.requests) == len(statuses) + 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(502, BackendAwayError), (503, BackendAwayError), (504, BackendAwayError), (500, BackendError)],
)
def test_a_server_that_does_not_is_given_up(status: int, error: type[BackendError]) -> None:
    """What stands before a server that is away says so; 500 comes from one that is there."""
    with ModelServer(failing(*[status] * 99)) as server:
        with pytest.raises(BackendError, match=f"The provider lab answered HTTP {status}") as caught:
            chat(server.base_url)
        assert len(server.requests) == 4
    assert type(caught.value) is error


def test_all_who_wait_for_a_server_that_answers_nobody_give_up_together() -> None:
    async def many(engine: RemoteEngine) -> list[Any]:
        return await asyncio.gather(*(engine.chat(MODEL, USER, Sampling()) for _ in range(20)), return_exceptions=True)

    with ModelServer(failing(*[429] * 999)) as server:
        errors = ask(server.base_url, many, max_busy_seconds=0.3)
        assert len(server.requests) < 40  # nobody needs a refusal of its own to know
    assert {type(error) for error in errors} == {BackendAwayError}
    assert all("It stayed so for 0.3 s." in str(error) for error in errors)


def test_a_server_that_answers_others_is_not_given_up() -> None:
    async def while_others_are_answered(engine: RemoteEngine) -> str:
        engine._session.open().limit._pace.answered_at = time.monotonic() + 3600
        return (await engine.chat(MODEL, USER, Sampling())).text

    with ModelServer(failing(429, 429)) as server:
        assert ask(server.base_url, while_others_are_answered, max_busy_seconds=0) == "at last"
    with ModelServer(failing(429)) as server, pytest.raises(BackendAwayError, match="It stayed so for 0 s"):
        chat(server.base_url, max_busy_seconds=0)


def test_retry_after_is_kept() -> None:
    with ModelServer(failing(429, headers={"Retry-After": "1"})) as server:
        started_at = time.monotonic()
        assert chat(server.base_url).text == "at last"
        assert time.monotonic() - started_at >= 1
    with ModelServer(failing(429, headers={"Retry-After": "3600"})) as server:
        started_at = time.monotonic()
        with pytest.raises(BackendAwayError, match="429"):
            chat(server.base_url)
        assert time.monotonic() - started_at < 1
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "repetition_penalty is unknown"}},
        {"error": "repetition_penalty is unknown"},
        {"message": "repetition_penalty is unknown"},
        {"detail": "repetition_penalty is unknown"},
    ],
)
def test_a_refusal_carries_the_servers_own_words(body: dict[str, Any]) -> None:
    with ModelServer(failing(400, body=body)) as server:
        with pytest.raises(InvalidRequestError, match=r"HTTP 400\): repetition_penalty is unknown$"):
            chat(server.base_url, Sampling(repetition_penalty=1.2))
        assert len(server.requests) == 1


def test_a_long_refusal_is_shortened() -> None:
    with ModelServer(failing(422, body={"error": "x" * 5000})) as server:
        with pytest.raises(InvalidRequestError) as caught:
            chat(server.base_url)
    assert len(caught.value.detail) < 600


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_what_the_operator_must_mend_is_no_fault_of_the_client(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = failing(status, headers={"Location": "http://127.0.0.1:9/v1"})
    with ModelServer(answer) as server, pytest.raises(BackendSetupError, match=f"HTTP {status}") as caught:
        chat(server.base_url)
    assert "secret-key" not in caught.value.detail + caplog.text
    assert len(server.requests) == 1


def test_a_refusal_of_any_length_is_a_refusal() -> None:
    with ModelServer(lambda _body: web.Response(body=b"x" * 2**21, status=400)) as server:
        with pytest.raises(InvalidRequestError, match="HTTP 400.: its reason is too long to be read"):
            chat(server.base_url)


def test_a_late_answer_is_a_timeout() -> None:
    with ModelServer(lambda body: "late", delay_seconds=1.0) as server, pytest.raises(BackendTimeoutError):
        chat(server.base_url, timeout_seconds=0.1)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BackendAwayError, match=r"The provider lab cannot be reached \(ClientConnectorError\)"
    ) as caught:
        chat("http://127.0.0.1:9/v1")
    assert "127.0.0.1" not in caught.value.detail


def test_calls_in_flight_are_bounded_and_their_waiting_is_no_timeout() -> None:
    async def many(engine: RemoteEngine) -> int:
        answers = await asyncio.gather(*(engine.chat(MODEL, USER, Sampling()) for _ in range(40)))
        return len(answers)

    with ModelServer(lambda body: "x", delay_seconds=0.1) as server:
        # 40 calls of 0.1 s, 8 at a time, are 0.5 s: over the timeout of each call.
        assert ask(server.base_url, many, max_concurrency=8, timeout_seconds=0.4) == 40
        assert server.max_in_flight == 8


def test_one_engine_serves_one_loop_after_another() -> None:
    remote = Provider(
        provider_id="lab", provider_type="remote::openai", config=RemoteConfig(base_url="http://127.0.0.1:9/v1")
    )
    with ModelServer(lambda body: "x") as server:
        remote = remote.model_copy(update={"config": RemoteConfig(base_url=server.base_url, max_concurrency=1)})
        engine = RemoteEngine(remote)

        async def two() -> None:
            await asyncio.gather(*(engine.chat(MODEL, USER, Sampling()) for _ in range(2)))
            await engine.close()

        asyncio.run(two())
        asyncio.run(two())
        assert len(server.requests) == 4


class TestRerank:
    def test_scores_come_in_the_order_of_the_items(self) -> None:
        def answer(body: dict[str, Any]) -> dict[str, Any]:
            scores = {"a": 0.1, "b": 0.9, "c": -2.0}
            results = [{"index": i, "relevance_score": scores[d]} for i, d in enumerate(body["documents"])]
            return {"results": sorted(results, key=lambda result: -result["relevance_score"])}

        with ModelServer(answer) as server:
            assert rerank(server.base_url, ["a", {"type": "text", "text": "b"}, "c"]) == [0.1, 0.9, -2.0]
            (path, body, _) = server.requests[0]
        assert path == "/v1/rerank"
        assert body == {"model": "org/judge-1", "query": "q", "documents": ["a", "b", "c"]}

    @pytest.mark.parametrize(
        "answer",
        [
            {
                "id": "07734bd2",
                "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}],
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            },
            {
                "model": "jina-reranker-v2-base-multilingual",
                "object": "list",
                "usage": {"total_tokens": 15},
                "results": [
                    {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
                    {"index": 0, "relevance_score": 0.2, "document": {"text": "a"}},
                ],
            },
            {
                "id": "score-1",
                "model": "BAAI/bge-reranker-v2-m3",
                "usage": {"prompt_tokens": 12, "total_tokens": 12},
                "results": [
                    {"index": 1, "document": {"text": "b", "multi_modal": None}, "relevance_score": 0.9},
                    {"index": 0, "document": {"text": "a", "multi_modal": None}, "relevance_score": 0.2},
                ],
            },
        ],
        ids=["cohere", "jina", "vllm"],
    )
    def test_the_servers_that_speak_one_shape(self, answer: dict[str, Any]) -> None:
        with ModelServer(lambda body: answer) as server:
            assert rerank(server.base_url, ["a", "b"]) == [0.2, 0.9]

    def test_text_embeddings_inference_is_asked_its_way_and_in_parts(self) -> None:
        def answer(body: dict[str, Any]) -> web.Response:
            ranks = [{"index": i, "score": float(text)} for i, text in enumerate(body["texts"])]
            return web.json_response(sorted(ranks, key=lambda rank: -rank["score"]))

        items = [*map(str, range(40)), {"type": "text", "text": "40"}]
        with ModelServer(answer) as server:
            found = ask(server.base_url, lambda engine: engine.rerank(MODEL, "q", items), rerank_shape="tei")
            assert found.scores == [float(i) for i in range(41)]
            assert [len(body["texts"]) for _, body, _ in server.requests] == [32, 9]
            path, body, _ = server.requests[1]
        assert path == "/v1/rerank"
        assert body == {"query": "q", "texts": [str(i) for i in range(32, 41)], "truncate": True}

    @pytest.mark.parametrize("ranks", ['[{"index": 0, "score": 1e999}]', '[{"index": 1, "score": 1.0}]', "[]", "{}"])
    def test_what_text_embeddings_inference_answers_is_checked_too(self, ranks: str) -> None:
        with ModelServer(lambda body: web.Response(text=ranks)) as server, pytest.raises(BackendError):
            ask(server.base_url, lambda engine: engine.rerank(MODEL, "q", ["a"]), rerank_shape="tei")

    def test_text_embeddings_inference_sees_no_images(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
        with ModelServer(lambda body: "x") as server, pytest.raises(InvalidRequestError) as caught:
            ask(server.base_url, lambda engine: engine.rerank(MODEL, "q", ["a", image]), rerank_shape="tei")
        assert caught.value.errors[0].pointer == "/items/1"
        assert server.requests == []

    def test_a_server_with_a_limit_is_asked_in_parts(self) -> None:
        def answer(body: dict[str, Any]) -> dict[str, Any]:
            return {"results": [{"index": i, "relevance_score": len(d)} for i, d in enumerate(body["documents"])]}

        with ModelServer(answer) as server:
            items = ["a" * n for n in range(1, 6)]
            found = ask(server.base_url, lambda engine: engine.rerank(MODEL, "q", items), rerank_batch_size=2)
            assert found.scores == [1, 2, 3, 4, 5]
            assert len(server.requests) == 3

    def test_images_go_out_in_the_form_that_vllm_takes(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "high"}}
        with ModelServer(lambda body: {"results": [{"index": 0, "relevance_score": 1}]}) as server:
            assert rerank(server.base_url, [image], query=image) == [1.0]
            assert server.requests[0][1] == {
                "model": "org/judge-1",
                "query": {"content": [image]},
                "documents": [{"content": [image]}],
            }

    @pytest.mark.parametrize(
        "results",
        [
            [{"index": 0, "relevance_score": 1.0}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 0, "relevance_score": 2.0}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 2, "relevance_score": 2.0}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": None}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": "high"}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": float("nan")}],
            [{"index": 0, "relevance_score": 1.0}, {"index": 1}],
        ],
    )
    def test_an_incomplete_or_impossible_ranking_is_refused(self, results: list[dict[str, Any]]) -> None:
        text = json.dumps({"results": results})
        with ModelServer(lambda body: web.Response(text=text)) as server, pytest.raises(BackendError):
            rerank(server.base_url, ["a", "b"])

    def test_a_number_too_large_is_refused(self) -> None:
        text = '{"results": [{"index": 0, "relevance_score": 1e999}]}'
        with ModelServer(lambda body: web.Response(text=text)) as server, pytest.raises(BackendError):
            rerank(server.base_url, ["a"])


def echoing(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What vLLM answers to a list of prompts with `echo`: a word is a token, and a beginning stands before them; the
    log-probability is minus its number of letters."""
    choices = []
    for index, prompt in enumerate(body["prompt"]):
        words = prompt.split()
        log_probs = {"tokens": ["<s>", *words], "token_logprobs": [None, *(-float(len(word)) for word in words)]}
        choices.append({"index": index, "text": prompt, "finish_reason": "length", "logprobs": log_probs} | changes)
    return {"choices": choices[::-1], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}


def likelihoods(
    base_url: str, context: str = "a bb ", continuations: tuple[str, ...] = ("ccc", "dddd ee")
) -> Likelihoods:
    return ask(base_url, lambda engine: engine.log_likelihoods(MODEL, context, continuations))


def test_likelihoods_come_from_an_echoed_prompt_in_one_request() -> None:
    with ModelServer(echoing) as server:
        found = likelihoods(server.base_url)
    assert found == Likelihoods([-3.0, -6.0], [1, 2])
    ((path, body, _),) = server.requests
    assert path == "/v1/completions"
    assert body == {
        "model": "org/judge-1",
        "prompt": ["a bb", "a bb ccc", "a bb dddd ee"],
        "max_tokens": 0,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: web.json_response({"error": "no such route"}, status=404), "HTTP 404"),
        (lambda _: "It is b.", "did not answer each of 3 prompts"),
        (lambda body: echoing(body, text="It is b."), "does not echo"),
        (lambda body: echoing(body, logprobs=None), "gives no log-probabilities"),
    ],
)
def test_a_server_without_log_probabilities_of_prompts_is_told_by_name(answer: Any, message: str) -> None:
    refusals = (InvalidRequestError, BackendSetupError)
    with ModelServer(answer) as server, pytest.raises(refusals, match=message) as caught:
        likelihoods(server.base_url)
    assert "The provider lab" in caught.value.detail
    assert "`echo` and `logprobs`" in caught.value.detail


def test_log_probabilities_that_are_none_are_not_believed() -> None:
    broken = {"tokens": ["a", "b", "c", "d", "e"], "token_logprobs": [None, -1.0, None, -1.0, -1.0]}
    with ModelServer(lambda body: echoing(body, logprobs=broken)) as server:
        with pytest.raises(BackendError, match="not a finite number"):
            likelihoods(server.base_url)


@pytest.mark.parametrize(
    ("context", "continuations", "message"), [(" ", ("a",), "empty"), ("a b", ("",), "adds no token")]
)
def test_texts_that_have_no_likelihood(context: str, continuations: tuple[str, ...], message: str) -> None:
    with ModelServer(echoing) as server, pytest.raises(InvalidRequestError, match=message):
        likelihoods(server.base_url, context, continuations)

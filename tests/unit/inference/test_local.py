"""Local models through the whole way: client, socket, engine process, real models."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inference_world import LocalWorld
from paddock.egress import Egress
from paddock.errors import BackendError, BackendTimeoutError, InvalidRequestError
from paddock.inference.engine import Generation, Likelihoods, Model, Relevance, Sampling
from paddock.inference.local import LocalEngine
from tiny_models import make_llava, png_url

PASSAGES = ["Horses eat grass and hay.", "Paris is the capital of France.", "The Seine flows through many towns."]
LONG = Sampling(max_tokens=400, temperature=1.0, seed=1, stop=("no such text",))


def user(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def test_chat_counts_tokens_and_says_why_it_ended(local_world: LocalWorld) -> None:
    answer = local_world.ask(lambda engine: engine.chat(local_world.tiny, user("hello"), Sampling(max_tokens=5)))
    assert answer.num_prompt_tokens == len("hello") + 3  # <|user|>, <|end|>, <|assistant|>; a token is a byte
    assert answer.num_generated_tokens == 5
    assert answer.finish_reason == "length"
    assert answer.text
    assert answer.latency_seconds > 0


def test_answers_of_a_burst_are_those_of_each_alone(local_world: LocalWorld) -> None:
    """More requests than a batch holds, of many lengths: they join and leave each other's batches."""
    prompts = ["x" * n + "?" for n in (0, 1, 3, 40, 2, 90, 7, 200, 5, 11, 64, 0, 30, 17)]
    samplings = [
        Sampling(max_tokens=5 + 3 * i, temperature=float(i % 3 == 2), seed=i, repetition_penalty=1.0 + (i % 2) / 4)
        for i in range(len(prompts))
    ]

    async def alone(engine: LocalEngine) -> list[Generation]:
        return [await engine.complete(local_world.tiny, p, s) for p, s in zip(prompts, samplings, strict=True)]

    async def together(engine: LocalEngine) -> list[Generation]:
        calls = [engine.complete(local_world.tiny, p, s) for p, s in zip(prompts, samplings, strict=True)]
        return await asyncio.gather(*calls)

    by_themselves = [answer.text for answer in local_world.ask(alone)]
    assert [answer.text for answer in local_world.ask(together)] == by_themselves
    assert len(set(by_themselves)) > len(prompts) // 2  # they say different things, so a mix-up would show


def test_choices_of_one_prompt_cost_one_reading(local_world: LocalWorld) -> None:
    prompt = "Once upon a time there was a horse. " * 9
    samplings = [replace(LONG, max_tokens=200 + 5 * i, seed=i, temperature=float(i > 0)) for i in range(8)]

    async def together(engine: LocalEngine) -> list[Generation]:
        return await asyncio.gather(*(engine.complete(local_world.tiny, prompt, sampling) for sampling in samplings))

    async def alone(engine: LocalEngine) -> list[Generation]:
        return [await engine.complete(local_world.tiny, prompt, sampling) for sampling in samplings]

    found, expected = local_world.ask(together), local_world.ask(alone)
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert sum(answer.num_prefilled_tokens or 0 for answer in found) == len(prompt)
    assert [answer.num_prefilled_tokens for answer in expected] == [len(prompt)] * 8
    assert [answer.num_prompt_tokens for answer in found] == [len(prompt)] * 8


def test_content_parts_of_text_are_joined(local_world: LocalWorld) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]

    async def both(engine: LocalEngine) -> tuple[Generation, Generation]:
        return (
            await engine.chat(local_world.tiny, parts, Sampling(max_tokens=4)),
            await engine.chat(local_world.tiny, user("hello"), Sampling(max_tokens=4)),
        )

    first, second = local_world.ask(both)
    assert first.text == second.text


def test_images_are_refused_by_name(local_world: LocalWorld) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with pytest.raises(InvalidRequestError, match="Part 1 of message 0") as caught:
        content = [{"type": "text", "text": "see"}, image]
        local_world.ask(lambda e: e.chat(local_world.tiny, [{"role": "user", "content": content}], Sampling()))
    assert caught.value.errors[0].pointer == "/messages/0/content/1"
    with pytest.raises(InvalidRequestError, match="minilm") as caught:
        local_world.ask(lambda e: e.rerank(local_world.minilm, "cat", ["a", image]))
    assert caught.value.errors[0].pointer == "/items/1"
    with pytest.raises(InvalidRequestError) as caught:
        local_world.ask(lambda e: e.rerank(local_world.minilm, image, ["a"]))
    assert caught.value.errors[0].pointer == "/query"


def test_a_checkpoint_is_its_adapter_over_its_base(local_world: LocalWorld) -> None:
    async def three(engine: LocalEngine) -> list[Generation]:
        models = (local_world.tiny, local_world.checkpoint, local_world.tiny)
        return [await engine.chat(model, user("hello"), Sampling(max_tokens=12)) for model in models]

    base, adapted, base_again = local_world.ask(three)
    assert adapted.text != base.text
    assert base_again.text == base.text


def test_real_passages_are_ranked_by_meaning(local_world: LocalWorld) -> None:
    scores = local_world.ask(lambda e: e.rerank(local_world.minilm, "Which city governs France?", PASSAGES)).scores
    assert max(range(3), key=lambda index: scores[index]) == 1
    assert all(-1.0 <= score <= 1.0 for score in scores)


def test_text_parts_and_strings_mix(local_world: LocalWorld) -> None:
    query, items = {"type": "text", "text": "France"}, [PASSAGES[0], {"type": "text", "text": PASSAGES[1]}, PASSAGES[2]]
    assert local_world.ask(lambda e: e.rerank(local_world.minilm, query, items)) == local_world.ask(
        lambda e: e.rerank(local_world.minilm, "France", PASSAGES)
    )


def test_an_item_that_is_too_long_is_told(local_world: LocalWorld) -> None:
    items = ["short", "word " * 400, "w", "word " * 500]
    found = local_world.ask(lambda e: e.rerank(local_world.minilm, "word", items))
    assert found.truncated == [1, 3]
    assert found.scores[1] == found.scores[3]  # what differs was not read


def test_many_requests_at_once_get_what_each_gets_alone(local_world: LocalWorld) -> None:
    requests = [
        (f"query {i}", [f"{PASSAGES[j % 3]} {'x ' * (7 * i * j % 60)}" for j in range(1 + i)]) for i in range(12)
    ]

    async def together(engine: LocalEngine) -> list[Relevance]:
        return await asyncio.gather(*(engine.rerank(local_world.minilm, *request) for request in requests))

    async def in_turn(engine: LocalEngine) -> list[Relevance]:
        return [await engine.rerank(local_world.minilm, *request) for request in requests]

    assert local_world.ask(together) == local_world.ask(in_turn)


def test_a_small_request_does_not_wait_for_a_large_one(local_world: LocalWorld) -> None:
    async def race(engine: LocalEngine) -> bool:
        large = asyncio.create_task(engine.rerank(local_world.minilm, "horse", ["word " * 200] * 1000))
        await asyncio.sleep(0.2)
        await engine.rerank(local_world.minilm, "horse", PASSAGES)
        chat = await engine.chat(local_world.tiny, user("hello"), Sampling(max_tokens=2))
        assert chat.num_generated_tokens == 2
        was_running = not large.done()
        large.cancel()
        return was_running

    assert local_world.ask(race)


def test_a_cross_encoder_and_a_checkpoint_rank_too(local_world: LocalWorld) -> None:
    for model in (local_world.cross_encoder, local_world.checkpoint):
        scores = local_world.ask(lambda e, model=model: e.rerank(model, "query", [*PASSAGES, PASSAGES[0]])).scores
        assert len(set(scores)) == 3
        assert scores[3] == scores[0]  # equal passages tie exactly


def test_what_a_model_cannot_do_is_refused(local_world: LocalWorld, tmp_path: Path) -> None:
    async def chat(engine: LocalEngine, model: Model) -> Generation:
        return await engine.chat(model, user("hello"), Sampling())

    with pytest.raises(InvalidRequestError, match=r"minilm \(BertModel\) does not generate text"):
        local_world.ask(lambda e: chat(e, local_world.minilm))
    with pytest.raises(InvalidRequestError, match="gone cannot be loaded") as caught:
        local_world.ask(lambda e: chat(e, Model("gone", "local", str(tmp_path / "nothing"))))
    assert str(tmp_path) not in caught.value.detail
    with pytest.raises(InvalidRequestError, match="has 600 tokens, and the context of tiny holds 512"):
        local_world.ask(lambda e: e.complete(local_world.tiny, "x" * 600, Sampling()))


def test_a_cancelled_request_makes_room(local_world: LocalWorld) -> None:
    """Once the clients of long answers have gone, running and waiting, the next answer is there at once."""

    async def leave(engine: LocalEngine) -> tuple[float, float]:
        async def start() -> list[asyncio.Task[Generation]]:
            samplings = [Sampling(max_tokens=450, temperature=1.0, seed=seed) for seed in range(24)]
            return [asyncio.create_task(engine.complete(local_world.tiny, "abc", each)) for each in samplings]

        started_at = time.monotonic()
        await asyncio.gather(*await start())
        seconds_of_all = time.monotonic() - started_at
        running = await start()
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        started_at = time.monotonic()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await engine.complete(local_world.tiny, "abc", Sampling(max_tokens=1))
        return seconds_of_all, time.monotonic() - started_at

    seconds_of_all, seconds_after = local_world.ask(leave)
    assert seconds_after < seconds_of_all / 3


def test_a_deadline_is_kept(local_world: LocalWorld) -> None:
    async def late(engine: LocalEngine) -> None:
        await asyncio.gather(*(engine.complete(local_world.tiny, "abc", LONG) for _ in range(32)))

    with pytest.raises(BackendTimeoutError):
        local_world.ask(late, deadline_seconds=0.05)


def test_a_killed_engine_fails_its_requests_and_comes_back(local_world: LocalWorld) -> None:
    async def killed(engine: LocalEngine) -> list[Generation | BaseException]:
        await engine.complete(local_world.tiny, "abc", Sampling(max_tokens=1))
        running = [asyncio.create_task(engine.complete(local_world.tiny, "abc", LONG)) for _ in range(100)]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        pid = local_world.host.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return await asyncio.gather(*running, return_exceptions=True)

    ends = local_world.ask(killed)
    failures = [end for end in ends if isinstance(end, BaseException)]
    assert failures
    assert {type(failure) for failure in failures} == {BackendError}
    again = local_world.ask(lambda e: e.complete(local_world.tiny, "abc", Sampling(max_tokens=3)))
    assert again.num_generated_tokens == 3


def test_no_server_is_said_at_once(tmp_path: Path) -> None:
    async def ask() -> None:
        engine = LocalEngine(tmp_path / "engine.sock", tmp_path, Egress(()))
        try:
            await engine.complete(Model("tiny", "local", "/models/tiny"), "abc", Sampling())
        finally:
            await engine.close()

    with pytest.raises(BackendError, match="no server runs"):
        asyncio.run(ask())


def test_images_reach_a_model_that_sees(local_world: LocalWorld, tmp_path: Path) -> None:
    """From OpenAI's parts through the engine process, beside conversations without an image."""
    seer = Model("seer", "local", str(make_llava(tmp_path / "seer")))

    def see(url: str) -> list[dict[str, object]]:
        parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        return [{"role": "user", "content": parts}]

    async def ask(engine: LocalEngine) -> list[Generation]:
        conversations = [see(png_url("red")), user("no image"), see(png_url("stripes")), see(png_url("red"))]
        return await asyncio.gather(*(engine.chat(seer, turns, Sampling(max_tokens=12)) for turns in conversations))

    red, text, stripes, red_again = local_world.ask(ask)
    assert red.text == red_again.text
    assert len({red.text, stripes.text, text.text}) == 3
    assert red.num_prompt_tokens == len("what is it?") + 3 + 4  # an image is four tokens
    for url, reason in (("https://images.example.org/one.png", "dataset_hosts"), ("data:image/png;base64,AAAA", "PNG")):
        with pytest.raises(InvalidRequestError, match=f"Part 1 of message 0.*{reason}"):
            local_world.ask(lambda engine, url=url: engine.chat(seer, see(url), Sampling()))


def test_likelihoods_do_not_depend_on_company(local_world: LocalWorld) -> None:
    rows = [("x" * n + ":", [" a", " bcd", " " + "e" * (n % 7 + 1)]) for n in (1, 60, 3, 200, 11, 5)]

    async def alone(engine: LocalEngine) -> list[Likelihoods]:
        return [await engine.log_likelihoods(local_world.tiny, *row) for row in rows]

    async def together(engine: LocalEngine) -> list[Likelihoods]:
        return await asyncio.gather(*(engine.log_likelihoods(local_world.tiny, *row) for row in rows))

    found = local_world.ask(alone)
    assert local_world.ask(together) == found
    assert found[1].num_tokens == [2, 4, 6]  # a token is a byte
    assert all(value < 0 for each in found for value in each.log_likelihoods)
    assert not any(each.is_truncated for each in found)


def test_likelihoods_by_an_adapter_are_its_own(local_world: LocalWorld) -> None:
    async def both(engine: LocalEngine) -> list[Likelihoods]:
        return [await engine.log_likelihoods(m, "q:", [" a"]) for m in (local_world.tiny, local_world.checkpoint)]

    base, adapted = local_world.ask(both)
    assert base.log_likelihoods != adapted.log_likelihoods


def test_white_space_before_a_continuation_is_the_continuations(local_world: LocalWorld) -> None:
    async def both(engine: LocalEngine) -> list[Likelihoods]:
        return [
            await engine.log_likelihoods(local_world.tiny, "The answer: ", ["yes", "no"]),
            await engine.log_likelihoods(local_world.tiny, "The answer:", [" yes", " no"]),
        ]

    trailing, leading = local_world.ask(both)
    assert trailing == leading
    assert trailing.num_tokens == [4, 3]


def test_a_context_that_is_too_long_loses_its_beginning_and_says_so(local_world: LocalWorld) -> None:
    async def both(engine: LocalEngine) -> list[Likelihoods]:
        text = "hay" * 200
        # 512 tokens are read, of which the continuation's last is none.
        return [
            await engine.log_likelihoods(local_world.tiny, text, [" yes"]),
            await engine.log_likelihoods(local_world.tiny, text[-509:], [" yes"]),
        ]

    cut, fitting = local_world.ask(both)
    assert (cut.is_truncated, fitting.is_truncated) == (True, False)
    assert cut.log_likelihoods == fitting.log_likelihoods


def test_an_empty_context_is_the_beginning_of_a_text(local_world: LocalWorld) -> None:
    found = local_world.ask(lambda engine: engine.log_likelihoods(local_world.tiny, "", ["a", "bc"]))
    assert found.num_tokens == [1, 2]


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [("q", "", "adds no token"), ("q", "x" * 600, "600 tokens, and the context")],
)
def test_continuations_that_have_no_likelihood(
    local_world: LocalWorld, context: str, continuation: str, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        local_world.ask(lambda engine: engine.log_likelihoods(local_world.tiny, context, [" fine", continuation]))

"""Which requests go together, and that none is forgotten."""

from __future__ import annotations

import threading
from pathlib import Path

from paddock.inference.engine import ChosenToken, Piece, Sampling
from paddock.inference.engine_messages import (
    ChatRequest,
    CompletionRequest,
    GenerationAnswer,
    LikelihoodRequest,
    LocalModel,
    Request,
    RerankRequest,
)
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Pieces, Queue, Work

A, B = LocalModel("a", "/a"), LocalModel("b", "/b")
FILES = ModelFiles(Path("/a"), {}, None)


def work(request: Request) -> Work:
    return Work(request, FILES)


def completion(model: LocalModel = A, length: int = 1) -> Work:
    return work(CompletionRequest(model, "x" * length, Sampling()))


def rerank(num_items: int, model: LocalModel = A) -> Work:
    return work(RerankRequest(model, "q", ["x"] * num_items))


def queue_of(*works: Work, max_batch_size: int = 8) -> Queue:
    queue = Queue(max_batch_size)
    for each in works:
        queue.submit(each)
    return queue


def test_one_model_at_a_time_the_oldest_first() -> None:
    first, other, second = completion(A), completion(B), completion(A)
    queue = queue_of(first, other, second)
    assert queue.take() == [first, second]
    assert queue.take() == [other]


def test_chats_and_completions_of_a_model_go_together_and_rankings_apart() -> None:
    chat = work(ChatRequest(A, [{"role": "user", "content": "x"}], Sampling()))
    ranking, text = rerank(1), completion()
    queue = queue_of(chat, ranking, text)
    assert queue.take() == [chat, text]
    assert queue.take() == [ranking]


def test_the_oldest_goes_with_its_nearest_in_length() -> None:
    oldest, far, near, nearer = (
        completion(length=10),
        completion(length=100),
        completion(length=14),
        completion(length=9),
    )
    queue = queue_of(oldest, far, near, nearer, max_batch_size=3)
    assert queue.take() == [oldest, nearer, near]
    assert queue.take() == [far]


def test_all_rankings_of_a_model_go_together() -> None:
    works = [rerank(10_000), *(rerank(1) for _ in range(20))]
    queue = queue_of(*works)
    assert sorted(map(id, queue.take())) == sorted(map(id, works))


def test_who_waits_for_something_else_is_known() -> None:
    ranking, same, other = rerank(1), rerank(2), rerank(1, B)
    queue = queue_of(same)
    assert not queue.has_other(ranking)
    queue.submit(other)
    assert queue.has_other(ranking)
    other.answer.cancel()
    assert not queue.has_other(ranking)


def test_abandoned_work_is_dropped() -> None:
    left, stayed = completion(), completion()
    queue = queue_of(left, stayed)
    left.answer.cancel()
    assert queue.take() == [stayed]


def test_an_answer_for_a_client_that_left_goes_nowhere() -> None:
    left = completion()
    left.answer.cancel()
    left.finish(GenerationAnswer("text", "stop", 1, 1))
    assert left.is_abandoned


def test_joining_takes_what_fits_up_to_a_limit() -> None:
    running, first, second = completion(), completion(), completion()
    queue = queue_of(first, second)
    assert queue.take_more(running, 1) == [first]
    assert queue.take_more(running, 0) == []
    assert queue.take_more(running, 5) == [second]
    assert queue.take_more(running, 5) == []


def test_nobody_joins_past_one_who_waits_longer() -> None:
    """Else a model that is always asked would keep every other from its turn."""
    running, other, later = completion(A), completion(B), completion(A)
    queue = queue_of(other, later)
    assert queue.take_more(running, 5) == []


def test_take_waits_for_work() -> None:
    queue = Queue(8)
    taken: list[list[Work]] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()), daemon=True)
    thread.start()
    late = completion()
    queue.submit(late)
    thread.join(10)
    assert taken == [[late]]


def test_an_image_is_as_long_as_a_page_whatever_its_data() -> None:
    def chat(content: object) -> Work:
        return work(ChatRequest(A, [{"role": "user", "content": content}], Sampling()))

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    sizes = [chat(content).num_characters for content in ("x" * 1000, [image], [image, {"type": "text", "text": "xy"}])]
    assert sizes[0] < sizes[1] == sizes[2] - 2 < 10_000


def test_pieces_that_nobody_takes_are_one() -> None:
    """However slow the reader, it is told once that there is something."""
    told = []
    pieces = Pieces(lambda: told.append(True))
    tokens = [ChosenToken(letter, -1.0) for letter in "abc"]
    assert pieces.take() is None
    for letter, token in zip("abc", tokens, strict=True):
        pieces.put(letter, [token])
    assert told == [True]
    assert pieces.take() == Piece("abc", tuple(tokens))
    assert pieces.take() is None
    pieces.put("d", [])
    assert told == [True, True]


def test_likelihoods_of_a_model_go_together() -> None:
    first, second = (work(LikelihoodRequest(A, "x" * length, ["a", "b"])) for length in (3, 900))
    other = work(LikelihoodRequest(B, "x", ["a"]))
    queue = queue_of(first, completion(), second, other, rerank(2))
    assert queue.take() == [first, second]
    assert queue.has_other(first)

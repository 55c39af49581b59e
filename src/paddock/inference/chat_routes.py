"""`/v1/chat/completions` and `/v1/completions`, as OpenAI's clients know them, whole or as streams."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from paddock import routing
from paddock.inference import chat_answers, streaming
from paddock.inference.chat_answers import Head
from paddock.inference.chat_requests import check_supported, messages_of, samplings_of, tools_of
from paddock.inference.chat_schemas import (
    ChatCompletion,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
    GenerationRequest,
)
from paddock.inference.engine import Engine, Generation, Model
from paddock.inference.inference import Inference
from paddock.inference.model_routes import Models
from paddock.inference.streaming import Call, Progress

router = routing.router("Inference")

_LLAMA_STACK_CLIENT = "LlamaStackClient/"


@router.post("/v1/chat/completions", openapi_extra=routing.EXTENSION, response_model=ChatCompletion)
async def create_chat_completion(
    request: Request, inference: Models, body: ChatCompletionRequest
) -> ChatCompletion | StreamingResponse:
    """Answer a conversation."""
    check_supported(body)
    messages, tools, samplings = messages_of(body), tools_of(body), samplings_of(body)
    model, engine = await _find(inference, body.model)
    calls: list[Call] = [
        functools.partial(engine.chat, model, messages, sampling, tools=tools) for sampling in samplings
    ]
    head = _head(body, "chatcmpl", "chat.completion.chunk")
    if body.stream:
        return await _stream(request, calls, functools.partial(chat_answers.chat_chunks, head))
    generations = await routing.while_connected(request, _all(calls))
    return ChatCompletion(
        id=head.answer_id,
        created=head.created,
        model=head.model,
        choices=[chat_answers.chat_choice(index, generation) for index, generation in enumerate(generations)],
        usage=chat_answers.usage_of(generations, num_choices=head.num_choices),
    )


@router.post("/v1/completions", openapi_extra=routing.EXTENSION, response_model=Completion)
async def create_completion(
    request: Request, inference: Models, body: CompletionRequest
) -> Completion | StreamingResponse:
    """Continue a text, or several."""
    check_supported(body)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    samplings = samplings_of(body)
    model, engine = await _find(inference, body.model)
    calls: list[Call] = [
        functools.partial(engine.complete, model, prompt, sampling, echo=bool(body.echo))
        for prompt in prompts
        for sampling in samplings
    ]
    head = _head(body, "cmpl", "text_completion")
    if body.stream:
        return await _stream(request, calls, functools.partial(chat_answers.text_chunks, head))
    generations = await routing.while_connected(request, _all(calls))
    return Completion(
        id=head.answer_id,
        created=head.created,
        model=head.model,
        choices=[chat_answers.text_choice(index, generation) for index, generation in enumerate(generations)],
        usage=chat_answers.usage_of(generations, num_choices=head.num_choices),
    )


def _head(body: GenerationRequest, prefix: str, kind: str) -> Head:
    options = body.stream_options
    return Head(
        answer_id=f"{prefix}-{uuid.uuid4().hex}",
        kind=kind,
        created=int(time.time()),
        model=body.model,
        num_choices=body.n or 1,
        has_usage=bool(options is not None and options.include_usage),
    )


async def _find(inference: Inference, model_id: str) -> tuple[Model, Engine]:
    model = await run_in_threadpool(inference.find, model_id)
    return model, inference.engine(model)


async def _stream(
    request: Request, calls: Sequence[Call], chunks: Callable[[AsyncIterator[Progress]], AsyncIterator[Any]]
) -> StreamingResponse:
    """The answer to a request for a stream. Raises `PaddockError` for what goes wrong before anything has come."""
    progress = streaming.together(calls)

    async def first() -> Progress:
        return await anext(progress)

    try:
        beginning = await routing.while_connected(request, first())
    except BaseException:
        await progress.aclose()
        raise
    # OpenAI's clients look for this end; those of Llama Stack up to 0.4 take it for a chunk and fail.
    wants_end = _LLAMA_STACK_CLIENT not in request.headers.get("user-agent", "")
    events = streaming.events(beginning, progress, chunks, wants_end=wants_end)
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _all(calls: Sequence[Call]) -> list[Generation]:
    """What all of the calls return; the first that fails takes the others back."""
    tasks = [asyncio.create_task(call(on_piece=None)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

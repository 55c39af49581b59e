"""`/v1/chat/completions` and `/v1/completions`, as OpenAI's clients know them.

A stream has the framing of one, for clients that ask for nothing else: the text is generated first and comes in one
piece.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from paddock import routing, wire
from paddock.errors import InvalidRequestError
from paddock.inference.chat_schemas import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    ChatMessage,
    Completion,
    CompletionRequest,
    GenerationRequest,
    TextChoice,
    Usage,
)
from paddock.inference.engine import Engine, Generation, Message, Model, Sampling
from paddock.inference.inference import Inference
from paddock.inference.model_routes import Models
from paddock.inference.schemas import plain_content

router = routing.router("Inference")

DEFAULT_TEMPERATURE = 1.0
"""As in OpenAI's API."""

_LLAMA_STACK_CLIENT = "LlamaStackClient/"

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
}
"""Fields that no engine here acts on, each with the values that ask for nothing."""


@router.post("/v1/chat/completions", openapi_extra=routing.EXTENSION, response_model=ChatCompletion)
async def create_chat_completion(
    request: Request, inference: Models, body: ChatCompletionRequest
) -> ChatCompletion | StreamingResponse:
    """Answer a conversation."""
    _refuse_unsupported(body)
    for index, message in enumerate(body.messages):
        if message.tool_calls:
            raise InvalidRequestError("Tools are not supported.", pointer=f"/messages/{index}/tool_calls")
    messages = [_message(message) for message in body.messages]
    model, engine = await _find(inference, body.model)
    samplings = _samplings(body, body.max_completion_tokens or body.max_tokens)
    work = _all([engine.chat(model, messages, sampling) for sampling in samplings])
    generations = await routing.while_connected(request, work)
    answer = ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        choices=[
            ChatChoice(index=index, message=AssistantMessage(content=g.text), finish_reason=g.finish_reason)
            for index, g in enumerate(generations)
        ],
        usage=_usage(generations, num_choices=len(samplings)),
    )
    return _stream(request, body, answer, "chat.completion.chunk", _chat_deltas(answer)) if body.stream else answer


@router.post("/v1/completions", openapi_extra=routing.EXTENSION, response_model=Completion)
async def create_completion(
    request: Request, inference: Models, body: CompletionRequest
) -> Completion | StreamingResponse:
    """Continue a text, or several."""
    _refuse_unsupported(body)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    model, engine = await _find(inference, body.model)
    samplings = _samplings(body, body.max_tokens)
    work = _all([engine.complete(model, prompt, sampling) for prompt in prompts for sampling in samplings])
    generations = await routing.while_connected(request, work)
    answer = Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        choices=[
            TextChoice(index=index, text=g.text, finish_reason=g.finish_reason) for index, g in enumerate(generations)
        ],
        usage=_usage(generations, num_choices=len(samplings)),
    )
    return _stream(request, body, answer, answer.object, _text_deltas(answer)) if body.stream else answer


def _message(message: ChatMessage) -> Message:
    content = message.content
    parts = content if isinstance(content, str) else [plain_content(part) for part in content]
    name = {} if message.name is None else {"name": message.name}
    return {"role": message.role, "content": parts, **name}


def _refuse_unsupported(body: GenerationRequest) -> None:
    for name, neutral in _UNSUPPORTED.items():
        value = getattr(body, name, None)
        # By type as well: 0 asks for log probabilities where false does not, and the two are equal.
        if value is not None and not any(type(value) is type(none) and value == none for none in neutral):
            raise InvalidRequestError(f"`{name}` is not supported.", pointer=f"/{name}")


async def _find(inference: Inference, model_id: str) -> tuple[Model, Engine]:
    model = await run_in_threadpool(inference.find, model_id)
    return model, inference.engine(model)


def _samplings(body: GenerationRequest, max_tokens: int | None) -> list[Sampling]:
    """How each of the `n` choices is drawn; with a seed, each from the next one, for else all would be the same."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return [
        Sampling(
            temperature=DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            max_tokens=max_tokens,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            stop=stop,
            seed=None if body.seed is None else body.seed + choice,
        )
        for choice in range(body.n or 1)
    ]


async def _all(calls: Sequence[Coroutine[Any, Any, Generation]]) -> list[Generation]:
    """What all of the calls return; the first that fails takes the others back."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _usage(generations: Sequence[Generation], *, num_choices: int) -> Usage | None:
    """The tokens of all, where the engine counts them; choices stand in order of their prompts, `num_choices` each."""
    prompts = [generation.num_prompt_tokens for generation in generations[::num_choices]]
    answers = [generation.num_generated_tokens for generation in generations]
    if None in prompts or None in answers:
        return None
    num_prompt_tokens, num_generated_tokens = sum(filter(None, prompts)), sum(filter(None, answers))
    return Usage(
        prompt_tokens=num_prompt_tokens,
        completion_tokens=num_generated_tokens,
        total_tokens=num_prompt_tokens + num_generated_tokens,
    )


def _chat_deltas(answer: ChatCompletion) -> Iterator[dict[str, Any]]:
    for choice in answer.choices:
        yield {"index": choice.index, "delta": choice.message.model_dump(), "finish_reason": choice.finish_reason}


def _text_deltas(answer: Completion) -> Iterator[dict[str, Any]]:
    for choice in answer.choices:
        yield {"index": choice.index, "text": choice.text, "finish_reason": choice.finish_reason}


def _stream(
    request: Request,
    body: GenerationRequest,
    answer: ChatCompletion | Completion,
    kind: str,
    deltas: Iterable[dict[str, Any]],
) -> StreamingResponse:
    """`answer` as server-sent events, a chunk for each of `deltas`."""
    head = {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}
    chunks = [head | {"choices": [delta]} for delta in deltas]
    if body.stream_options is not None and body.stream_options.include_usage:
        usage = None if answer.usage is None else answer.usage.model_dump()
        chunks.append(head | {"choices": [], "usage": usage})
    events = [f"data: {wire.to_json(chunk)}\n\n" for chunk in chunks]
    # OpenAI's clients look for this end; those of Llama Stack up to 0.4 take it for a chunk and fail.
    if _LLAMA_STACK_CLIENT not in request.headers.get("user-agent", ""):
        events.append("data: [DONE]\n\n")
    return StreamingResponse(iter(events), media_type="text/event-stream")

"""What engines made, in OpenAI's shapes: whole answers, and the chunks of streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paddock.inference.chat_schemas import (
    AssistantMessage,
    CalledFunction,
    ChatChoice,
    ChatLogProbs,
    LikelyTokenRecord,
    TextChoice,
    TextLogProbs,
    TokenRecord,
    ToolCallRecord,
    Usage,
)
from paddock.inference.engine import ChosenToken, Generation, Piece
from paddock.inference.streaming import Progress


def chat_choice(index: int, generation: Generation) -> ChatChoice:
    """One answer to a conversation."""
    calls = _calls(generation)
    message = AssistantMessage(content=generation.text or (None if calls else ""), tool_calls=calls or None)
    return ChatChoice(
        index=index,
        message=message,
        finish_reason=generation.finish_reason,
        logprobs=None if generation.tokens is None else _chat_log_probs(generation.tokens),
    )


def text_choice(index: int, generation: Generation) -> TextChoice:
    """One continuation of a text."""
    return TextChoice(
        index=index,
        text=generation.text,
        finish_reason=generation.finish_reason,
        logprobs=None if generation.tokens is None else _text_log_probs(generation.tokens, 0),
    )


def usage_of(generations: Sequence[Generation], *, num_choices: int) -> Usage | None:
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


@dataclass(frozen=True)
class Head:
    """What every chunk of a stream has, and whether one that counts tokens ends it."""

    answer_id: str
    kind: str
    created: int
    model: str
    num_choices: int
    """How many answers each prompt gets."""
    has_usage: bool

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self._fields() | {"choices": [choice]} | ({"usage": None} if self.has_usage else {})

    def usage_chunk(self, generations: Sequence[Generation]) -> dict[str, Any]:
        usage = usage_of(generations, num_choices=self.num_choices)
        return self._fields() | {"choices": [], "usage": None if usage is None else usage.model_dump()}

    def _fields(self) -> dict[str, Any]:
        return {"id": self.answer_id, "object": self.kind, "created": self.created, "model": self.model}


async def chat_chunks(head: Head, progress: AsyncIterator[Progress]) -> AsyncIterator[dict[str, Any]]:
    """A stream of answers to a conversation."""
    begun = set[int]()

    def of_choice(index: int, delta: dict[str, Any], tokens: Sequence[ChosenToken], end: str | None) -> dict[str, Any]:
        log_probs = _chat_log_probs(tokens).model_dump() if tokens else None
        return {"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": end}

    def choices(index: int, made: Piece | Generation, tokens: Sequence[ChosenToken]) -> list[dict[str, Any]]:
        found = []
        if index not in begun:
            begun.add(index)
            found.append(of_choice(index, {"role": "assistant", "content": ""}, (), None))
        if isinstance(made, Piece):
            return [*found, of_choice(index, {"content": made.text}, tokens, None)]
        if calls := _calls(made):
            delta = {"tool_calls": [{"index": i, **call.model_dump()} for i, call in enumerate(calls)]}
            found.append(of_choice(index, delta, (), None))
        return [*found, of_choice(index, {}, tokens, made.finish_reason)]

    async for chunk in _chunks(head, progress, choices):
        yield chunk


async def text_chunks(head: Head, progress: AsyncIterator[Progress]) -> AsyncIterator[dict[str, Any]]:
    """A stream of continuations."""
    offsets: dict[int, int] = {}

    def choices(index: int, made: Piece | Generation, tokens: Sequence[ChosenToken]) -> list[dict[str, Any]]:
        log_probs = _text_log_probs(tokens, offsets.get(index, 0)).model_dump() if tokens else None
        offsets[index] = offsets.get(index, 0) + sum(len(token.token) for token in tokens)
        text, end = (made.text, None) if isinstance(made, Piece) else ("", made.finish_reason)
        return [{"index": index, "text": text, "logprobs": log_probs, "finish_reason": end}]

    async for chunk in _chunks(head, progress, choices):
        yield chunk


async def _chunks(
    head: Head,
    progress: AsyncIterator[Progress],
    choices: Callable[[int, Piece | Generation, Sequence[ChosenToken]], list[dict[str, Any]]],
) -> AsyncIterator[dict[str, Any]]:
    """The chunks for what comes; `choices` is told each answer's index, what came of it, and the tokens that are new."""
    num_told: dict[int, int] = {}
    generations: dict[int, Generation] = {}
    async for index, made in progress:
        if isinstance(made, Piece):
            tokens = made.tokens
            num_told[index] = num_told.get(index, 0) + len(tokens)
        else:
            tokens = (made.tokens or ())[num_told.get(index, 0) :]
            generations[index] = made
        for choice in choices(index, made, tokens):
            yield head.chunk(choice)
    if head.has_usage:
        yield head.usage_chunk([generations[index] for index in sorted(generations)])


def _calls(generation: Generation) -> list[ToolCallRecord]:
    return [
        ToolCallRecord(id=call.call_id, function=CalledFunction(name=call.name, arguments=call.arguments))
        for call in generation.tool_calls
    ]


def _chat_log_probs(tokens: Sequence[ChosenToken]) -> ChatLogProbs:
    return ChatLogProbs(
        content=[
            TokenRecord(
                token=token.token,
                logprob=token.logprob,
                bytes=token.bytes,
                top_logprobs=[
                    LikelyTokenRecord(token=likely.token, logprob=likely.logprob, bytes=likely.bytes)
                    for likely in token.likeliest
                ],
            )
            for token in tokens
            if token.logprob is not None  # as it may be in completions alone
        ]
    )


def _text_log_probs(tokens: Sequence[ChosenToken], offset: int) -> TextLogProbs:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return TextLogProbs(
        tokens=[token.token for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[
            None if token.logprob is None else {likely.token: likely.logprob for likely in token.likeliest}
            for token in tokens
        ],
        text_offset=offsets,
    )

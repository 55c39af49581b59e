"""What OpenAI-like servers answer to chat and completions, read strictly: whole answers, and events of streams.

Nothing that a server says is believed for its shape; what it leaves out (usage, log-probabilities, bytes) is left out.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine import ChosenToken, Generation, LikelyToken, OnPiece, Piece, ToolCall


class _LikelyToken(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_LikelyToken] = []

    def chosen(self) -> ChosenToken:
        likeliest = tuple(LikelyToken(likely.token, likely.logprob, likely.bytes) for likely in self.top_logprobs)
        return ChosenToken(self.token, self.logprob, self.bytes, likeliest)


class _ChatLogProbs(msgspec.Struct):
    content: list[_Token] | None = None


class _TextLogProbs(msgspec.Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogProbs | None = None


class _ChatChange(msgspec.Struct):
    delta: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None
    logprobs: _ChatLogProbs | None = None


class _TextChoice(msgspec.Struct):
    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: _TextLogProbs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _ChatAnswer(msgspec.Struct):
    choices: list[_ChatChoice]
    usage: _Usage | None = None


class _TextAnswer(msgspec.Struct):
    choices: list[_TextChoice]
    usage: _Usage | None = None


class _ChatEvent(msgspec.Struct):
    choices: list[_ChatChange] = []
    usage: _Usage | None = None
    error: Any = None


class _TextEvent(msgspec.Struct):
    choices: list[_TextChoice] = []
    usage: _Usage | None = None
    error: Any = None


@dataclass
class Written:
    """What a server, whose name begins a sentence about it, has written of one answer so far."""

    server: str
    texts: list[str] = field(default_factory=list)
    tokens: list[ChosenToken] | None = None
    calls: list[_ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
    usage: _Usage = field(default_factory=_Usage)

    def add(self, choice: _ChatChoice | _ChatChange | _TextChoice) -> Piece:
        """What a choice, or an event's change of it, says more."""
        if isinstance(choice, _TextChoice):
            text, tokens = choice.text, self._text_tokens(choice.logprobs)
        else:
            message = choice.message if isinstance(choice, _ChatChoice) else choice.delta
            text = message.content or ""
            tokens = None if choice.logprobs is None else [t.chosen() for t in choice.logprobs.content or ()]
            for call in message.tool_calls or ():
                self._add_call(call, is_whole=isinstance(choice, _ChatChoice))
        self.texts.append(text)
        if tokens is not None:
            self.tokens = (self.tokens or []) + tokens
        self.finish_reason = choice.finish_reason or self.finish_reason
        return Piece(text, tuple(tokens or ()))

    def _add_call(self, call: _ToolCall, *, is_whole: bool) -> None:
        """An event tells a call's name once and its arguments bit by bit, under the index of the call."""
        if is_whole or call.index == len(self.calls):
            self.calls.append(call)
        elif 0 <= call.index < len(self.calls):
            known = self.calls[call.index]
            known.id = known.id or call.id
            known.function.name = known.function.name or call.function.name
            known.function.arguments = (known.function.arguments or "") + (call.function.arguments or "")
        else:
            raise BackendError(f"{self.server} called tools out of their order.")

    def _text_tokens(self, log_probs: _TextLogProbs | None) -> list[ChosenToken] | None:
        if log_probs is None:
            return None
        likeliest = log_probs.top_logprobs or [None] * len(log_probs.tokens)
        if not len(log_probs.tokens) == len(log_probs.token_logprobs) == len(likeliest):
            raise BackendError(f"{self.server} gave log-probabilities of another number of tokens.")
        return [
            ChosenToken(token, logprob, None, tuple(LikelyToken(*pair) for pair in (likely or {}).items()))
            for token, logprob, likely in zip(log_probs.tokens, log_probs.token_logprobs, likeliest, strict=True)
        ]

    def generation(self, seconds: float) -> Generation:
        """The whole, which took so long."""
        calls = []
        for number, call in enumerate(self.calls):
            if not call.function.name:
                raise BackendError(f"{self.server} called a tool without its name.")
            calls.append(ToolCall(call.id or f"call_{number}", call.function.name, call.function.arguments or "{}"))
        reason = "length" if self.finish_reason == "length" else "tool_calls" if calls else "stop"
        return Generation(
            text="".join(self.texts),
            finish_reason=reason,
            num_prompt_tokens=self.usage.prompt_tokens,
            num_generated_tokens=self.usage.completion_tokens,
            latency_seconds=seconds,
            tokens=None if self.tokens is None else tuple(self.tokens),
            tool_calls=tuple(calls),
        )


Message = TypeVar("Message", _ChatAnswer, _TextAnswer, _ChatEvent, _TextEvent)


def whole(server: str, raw: bytes, *, is_chat: bool) -> Written:
    """An answer in one. Raises `BackendError`."""
    answer: _ChatAnswer | _TextAnswer = _read(server, raw, _ChatAnswer) if is_chat else _read(server, raw, _TextAnswer)
    if not answer.choices:
        raise BackendError(f"{server} answered without a choice.")
    written = Written(server, usage=answer.usage or _Usage())
    written.add(answer.choices[0])
    return written


async def from_events(server: str, lines: AsyncIterator[bytes], on_piece: OnPiece, *, is_chat: bool) -> Written:
    """An answer whose events come as lines; each change is told on. Raises `BackendError`."""
    written = Written(server)
    async for line in lines:
        name, _, value = line.partition(b":")
        if name != b"data":  # comments, other fields, and the empty lines between events
            continue
        value = value.strip()
        if value == b"[DONE]":
            return written
        event: _ChatEvent | _TextEvent = (
            _read(server, value, _ChatEvent) if is_chat else _read(server, value, _TextEvent)
        )
        if event.error is not None:
            raise BackendError(f"{server} broke off its answer with an error of its own.")
        written.usage = event.usage or written.usage
        for choice in event.choices[:1]:
            piece = written.add(choice)
            if piece.text:
                await on_piece(piece)
    if written.finish_reason is None:
        raise BackendError(f"{server} broke off its answer.")
    return written


def prompt_log_probs(server: str, raw: bytes, prompts: Sequence[str]) -> list[list[float]]:
    """For each prompt, which the server has echoed, the log-probabilities of its tokens, of which the first may be NaN:
    nothing stands before it. Raises `BackendError`, and `InvalidRequestError` if the server echoes nothing, or tells no
    log-probabilities."""
    choices = {choice.index: choice for choice in _read(server, raw, _TextAnswer).choices}
    if choices.keys() != set(range(len(prompts))):
        raise InvalidRequestError(f"{server} did not answer each of {len(prompts)} prompts.")
    return [_echoed(server, choices[index], prompt) for index, prompt in enumerate(prompts)]


def _echoed(server: str, choice: _TextChoice, prompt: str) -> list[float]:
    if choice.text != prompt:
        raise InvalidRequestError(f"{server} does not echo a prompt, and nothing else.")
    if choice.logprobs is None or not choice.logprobs.token_logprobs:
        raise InvalidRequestError(f"{server} gives no log-probabilities.")
    first, *others = choice.logprobs.token_logprobs
    if any(log_prob is None or not math.isfinite(log_prob) for log_prob in others):
        raise BackendError(f"{server} gave a log-probability that is not a finite number.")
    return [math.nan if first is None else first, *(log_prob for log_prob in others if log_prob is not None)]


def _read(server: str, raw: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendError(f"{server} gave an answer that cannot be read: {error}.") from None

"""From a request in OpenAI's shape to what an engine is asked; what no engine here can do is refused by name."""

from __future__ import annotations

from typing import Any

from paddock.errors import InvalidRequestError
from paddock.inference.chat_schemas import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    GenerationRequest,
    PlainText,
    ToolChoice,
)
from paddock.inference.engine import Message, Sampling, Tools
from paddock.inference.schemas import plain_content
from paddock.wire import escape_pointer

DEFAULT_TEMPERATURE = 1.0
"""As in OpenAI's API."""

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "parallel_tool_calls": (True,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "suffix": ("",),
    "best_of": (1,),
}
"""Fields that no engine here acts on, each with the values that ask for nothing."""


def check_supported(body: GenerationRequest) -> None:
    """Raise `InvalidRequestError` for a field that asks for something that no engine here does."""
    for name, neutral in _UNSUPPORTED.items():
        value = getattr(body, name, None)
        # By type as well: 0 asks for log probabilities where false does not, and the two are equal.
        if value is not None and not any(type(value) is type(none) and value == none for none in neutral):
            raise InvalidRequestError(f"`{name}` is not supported.", pointer=f"/{escape_pointer(name)}")


def messages_of(body: ChatCompletionRequest) -> list[Message]:
    """The conversation. Raises `InvalidRequestError` for a turn that lacks what its role needs."""
    return [_message(message, f"/messages/{index}") for index, message in enumerate(body.messages)]


def _message(message: ChatMessage, pointer: str) -> Message:
    content = message.content
    if message.tool_calls and message.role != "assistant":
        raise InvalidRequestError("Only the assistant calls tools.", pointer=f"{pointer}/tool_calls")
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequestError("A tool's turn says which call it answers.", pointer=f"{pointer}/tool_call_id")
    if content is None and not message.tool_calls:
        raise InvalidRequestError("A turn has `content`, unless it calls tools.", pointer=f"{pointer}/content")
    turn: Message = {
        "role": message.role,
        "content": [plain_content(part) for part in content] if isinstance(content, list) else content,
    }
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    return turn


def tools_of(body: ChatCompletionRequest) -> Tools | None:
    """What the model may call; None for nothing. Raises `InvalidRequestError` for a choice that there is not."""
    names = [tool.function.name for tool in body.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidRequestError(f"There are two functions {name}.", pointer=f"/tools/{index}/function/name")
    choice = body.tool_choice
    if isinstance(choice, ToolChoice) and choice.function.name not in names:
        raise InvalidRequestError(
            f"There is no function {choice.function.name} among the tools.", pointer="/tool_choice/function/name"
        )
    if choice == "required" and not names:
        raise InvalidRequestError("There are no tools of which one could be required.", pointer="/tool_choice")
    if not names or choice == "none":
        return None
    functions = [
        {"type": "function", "function": tool.function.model_dump(include=_FUNCTION_FIELDS, exclude_none=True)}
        for tool in body.tools or ()
    ]
    required = (choice.function.name,) if isinstance(choice, ToolChoice) else tuple(names)
    return Tools(tuple(functions), required if choice not in (None, "auto") else ())


_FUNCTION_FIELDS = {"name", "description", "parameters", "strict"}


def samplings_of(body: ChatCompletionRequest | CompletionRequest) -> list[Sampling]:
    """How each of the `n` choices is drawn; with a seed, each from the next one, for else all would be the same."""
    max_tokens, response_format = body.max_tokens, None
    if max_tokens == 0 and isinstance(body, CompletionRequest) and not body.echo:
        raise InvalidRequestError("`max_tokens: 0` goes with `echo: true`.", pointer="/max_tokens")
    if isinstance(body, ChatCompletionRequest):
        max_tokens, response_format = body.max_completion_tokens or max_tokens, _response_format(body)
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
            response_format=response_format,
            num_likely=_num_likely(body),
        )
        for choice in range(body.n or 1)
    ]


def _response_format(body: ChatCompletionRequest) -> dict[str, Any] | None:
    if body.response_format is None or isinstance(body.response_format, PlainText):
        return None
    return body.response_format.model_dump(by_alias=True, exclude_none=True)


def _num_likely(body: ChatCompletionRequest | CompletionRequest) -> int | None:
    if isinstance(body, CompletionRequest):
        return None if body.logprobs is None or body.logprobs is False else body.logprobs
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("`top_logprobs` goes with `logprobs: true`.", pointer="/top_logprobs")
    return body.top_logprobs or 0 if body.logprobs else None

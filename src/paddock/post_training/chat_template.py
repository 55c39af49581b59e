"""From a conversation to one text, by the tokenizer's own chat template, and to the places of its answers in it.

Where the template marks answers with `{% generation %}` blocks, those are the answers. Else the conversation is rendered
up to each turn of the assistant and with it, and the difference is the answer. Either is checked for every conversation.
"""

from __future__ import annotations

import re
from typing import Any

import jinja2

from paddock.errors import InvalidRequestError
from paddock.post_training.rows import Conversation, Message, RowError

Span = tuple[int, int]
"""Characters from the first up to, not including, the second."""

# Characters of no alphabet, put at both ends of a generation block to find it again in the text.
_BEGIN, _END = "\ue0f0", "\ue0f1"

_BLOCK_BEGINS = re.compile(r"\{%-?\s*generation\s*(-?)%\}")
_BLOCK_ENDS = re.compile(r"\{%(-?)\s*endgeneration\s*-?%\}")


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any, model_id: str) -> None:
        """Raises `InvalidRequestError` if the tokenizer has none."""
        if tokenizer.chat_template is None:
            raise InvalidRequestError(f"The model {model_id} has no chat template, which rows are turned into text by.")
        self._tokenizer = tokenizer
        self._model_id = model_id
        self._template: str = tokenizer.get_chat_template()
        self._marked = _mark(self._template) if _BLOCK_BEGINS.search(self._template) else None
        self._closing_tokens = tuple(tokenizer.all_special_tokens)

    def render(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """The conversation's text, and where its answers stand in it, in order. Raises `RowError`."""
        if self._marked is not None:
            return self._by_marks(conversation, self._marked)
        return self._by_difference(conversation)

    def _by_marks(self, conversation: Conversation, marked_template: str) -> tuple[str, list[Span]]:
        text = self._apply(conversation.messages, self._template)
        unmarked, spans = _unmark(self._apply(conversation.messages, marked_template))
        if text != unmarked:
            raise RowError(f"the chat template of the model {self._model_id} does not let its answers be marked")
        prompt = conversation.messages[: conversation.num_prompt]
        if any(message["role"] == "assistant" for message in prompt):
            # Earlier answers are marked as well; they come first.
            _, earlier = _unmark(self._apply(prompt, marked_template))
            spans = spans[len(earlier) :]
        return text, spans

    def _by_difference(self, conversation: Conversation) -> tuple[str, list[Span]]:
        messages = conversation.messages
        text = self._apply(messages, self._template)
        spans = []
        for position in range(conversation.num_prompt, len(messages)):
            if messages[position]["role"] != "assistant":
                continue
            before = self._apply(messages[:position], self._template, add_generation_prompt=True)
            until = self._apply(messages[: position + 1], self._template)
            if not (text.startswith(until) and until.startswith(before)):
                raise RowError(
                    f"the chat template of the model {self._model_id} does not let turn {position} be told from the rest: "
                    "it has no {% generation %} block, and the conversation up to there is no beginning of the whole"
                )
            spans.append((len(before), self._end(until)))
        return text, spans

    def _end(self, until: str) -> int:
        """Where an answer ends: white space behind the token that closes the turn is the template's, not the model's."""
        trimmed = until.rstrip()
        return len(trimmed) if trimmed.endswith(self._closing_tokens) else len(until)

    def _apply(self, messages: tuple[Message, ...], template: str, *, add_generation_prompt: bool = False) -> str:
        if not messages:
            return ""
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), chat_template=template, add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(f"the chat template of the model {self._model_id} refuses it: {error}") from None
        return text


def _mark(template: str) -> str:
    """The template with a mark at both ends of its generation blocks.

    The library's own count of where a block stands is wrong inside a macro or a captured text. A minus sign strips white
    space as before; the empty comments take the line breaks and indents that the tags took."""
    template = _BLOCK_BEGINS.sub(
        lambda tag: tag[0] + (f"{{{{- '{_BEGIN}' -}}}}" if tag[1] else f"{{{{ '{_BEGIN}' }}}}{{##}}"), template
    )
    return _BLOCK_ENDS.sub(
        lambda tag: (f"{{{{- '{_END}' -}}}}" if tag[1] else f"{{##}}{{{{ '{_END}' }}}}") + tag[0], template
    )


def _unmark(text: str) -> tuple[str, list[Span]]:
    """A text without its marks, and what stood between each pair of them."""
    parts = re.split(f"[{_BEGIN}{_END}]", text)
    spans, place = [], 0
    for number, part in enumerate(parts):
        # Texts outside and inside of a pair take turns.
        if number % 2 == 1:
            spans.append((place, place + len(part)))
        place += len(part)
    return "".join(parts), spans

"""From conversations to token ids and labels, by the tokenizer's own chat template. Pure: no files, no tensors.

A label is the token's own id where it is learnt and `IGNORED` elsewhere; the loss shifts them by one. Which characters
are answers is told by the template's `{% generation %}` blocks where it has them; else by rendering the conversation up
to each turn of the assistant, which must be a beginning of the whole. Either is checked row by row.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from paddock.errors import InvalidRequestError
from paddock.post_training import rows
from paddock.post_training.rows import Conversation, Message, RowError

IGNORED = -100
"""The label of a token that bears no loss."""

_ROWS_AT_ONCE = 256

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Span = tuple[int, int]
"""Characters from the first up to, not including, the second."""


@dataclass(frozen=True)
class TokenizedRow:
    """One sequence. `index` is the row's place in its dataset, `ids` and `labels` are of one length."""

    index: int
    ids: array[int]
    labels: array[int]
    is_truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


def tokenize(
    conversations: Iterable[tuple[int, Conversation]],
    tokenizer: Any,
    *,
    dataset_id: str,
    model_id: str,
    max_seq_len: int,
    train_on_input: bool = False,
) -> Iterator[TokenizedRow]:
    """Conversations (with their rows' indices) as sequences of at most `max_seq_len` tokens, in the same order.

    What is too long is cut at the end. `train_on_input` learns every token, not only the answers. Raises
    `InvalidRequestError` naming the first row that cannot be used."""
    if not tokenizer.is_fast:
        raise InvalidRequestError(f"The tokenizer of the model {model_id} does not tell where its tokens begin.")
    template = _Template(tokenizer, model_id)
    remaining = iter(conversations)
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        texts, answers = [], []
        for index, conversation in some:
            with rows.naming(dataset_id, index):
                text, spans = template.render(conversation)
            texts.append(text)
            answers.append(spans)
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        for (index, _), ids, offsets, spans in zip(
            some, encoded["input_ids"], encoded["offset_mapping"], answers, strict=True
        ):
            labels = list(ids) if train_on_input else _labels(ids, offsets, spans)
            # Nothing stands before the first token that could foretell it.
            labels[0] = IGNORED
            with rows.naming(dataset_id, index):
                yield _cut(index, ids, labels, max_seq_len)


def _cut(index: int, ids: list[int], labels: list[int], max_seq_len: int) -> TokenizedRow:
    if all(label == IGNORED for label in labels[:max_seq_len]):
        raise RowError(f"no token of its answer is left within {max_seq_len} tokens")
    return TokenizedRow(
        index, array("i", ids[:max_seq_len]), array("i", labels[:max_seq_len]), is_truncated=len(ids) > max_seq_len
    )


def _labels(ids: list[int], offsets: list[Span], answers: list[Span]) -> list[int]:
    """The ids of tokens that begin inside an answer, `IGNORED` for all others."""
    labels = [IGNORED] * len(ids)
    remaining = iter(answers)
    answer = next(remaining, None)
    previous_end = 0
    for position, (start, end) in enumerate(offsets):
        # Byte-level tokenizers may trim white space off the offsets; a token of nothing else is left without width.
        begin = start if end > start else previous_end
        previous_end = end
        while answer is not None and begin >= answer[1]:
            answer = next(remaining, None)
        if answer is None:
            break
        if begin >= answer[0]:
            labels[position] = ids[position]
    return labels


class _Template:
    """A tokenizer's chat template."""

    def __init__(self, tokenizer: Any, model_id: str) -> None:
        if tokenizer.chat_template is None:
            raise InvalidRequestError(f"The model {model_id} has no chat template, which rows are turned into text by.")
        self._template: str = tokenizer.get_chat_template()
        self._marks_answers = _GENERATION.search(self._template) is not None
        self._special_tokens = tokenizer.special_tokens_map
        self._ends = tuple(tokenizer.all_special_tokens)
        self._model_id = model_id

    def render(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """The conversation's text, and where its answers stand in it."""
        if self._marks_answers:
            return self._by_marks(conversation)
        return self._by_difference(conversation)

    def _by_marks(self, conversation: Conversation) -> tuple[str, list[Span]]:
        text, spans = self._apply(conversation.messages)
        prompt = conversation.messages[: conversation.num_prompt]
        if any(message["role"] == "assistant" for message in prompt):
            _, prompt_spans = self._apply(prompt)
            spans = spans[len(prompt_spans) :]
        answers = _answers(conversation)
        if len(spans) == len(answers):
            for span, answer in zip(spans, answers, strict=True):
                # Inside macros the library loses count of where a block stands.
                if _last_line(answer["content"]) not in text[slice(*span)]:
                    raise RowError(f"the chat template of the model {self._model_id} marks another place as its answer")
        return text, spans

    def _by_difference(self, conversation: Conversation) -> tuple[str, list[Span]]:
        messages = conversation.messages
        text, _ = self._apply(messages)
        spans = []
        for position in range(conversation.num_prompt, len(messages)):
            if messages[position]["role"] != "assistant":
                continue
            before, _ = self._apply(messages[:position], add_generation_prompt=True)
            until, _ = self._apply(messages[: position + 1])
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
        return len(trimmed) if trimmed.endswith(self._ends) else len(until)

    def _apply(self, messages: tuple[Message, ...], *, add_generation_prompt: bool = False) -> tuple[str, list[Span]]:
        if not messages:
            return "", []
        try:
            texts, spans = render_jinja_template(
                [list(messages)],
                chat_template=self._template,
                return_assistant_tokens_mask=self._marks_answers,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(f"the chat template of the model {self._model_id} refuses it: {error}") from None
        return texts[0], sorted(spans[0]) if self._marks_answers else []


def _answers(conversation: Conversation) -> list[Message]:
    return [m for m in conversation.messages[conversation.num_prompt :] if m["role"] == "assistant"]


def _last_line(content: str) -> str:
    lines = content.strip().splitlines()
    return lines[-1].strip() if lines else ""

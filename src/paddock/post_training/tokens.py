"""From conversations to token ids and labels. Pure: no files, no tensors.

A label is the token's own id where it is learnt and `IGNORED` elsewhere; the loss shifts them by one. The text, and which
of its characters are answers, come from `chat_template`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from paddock.errors import InvalidRequestError
from paddock.post_training import rows
from paddock.post_training.chat_template import ChatTemplate, Span
from paddock.post_training.rows import Conversation, RowError

IGNORED = -100
"""The label of a token that bears no loss."""

_ROWS_AT_ONCE = 256


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
    template = ChatTemplate(tokenizer, model_id)
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

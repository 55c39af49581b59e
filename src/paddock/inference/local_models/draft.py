"""One answer while it is made: its tokens as text, whole and in pieces.

A piece holds what is certain: half a character waits for its other bytes, what may become a stop sequence or a tool's call
for what follows. The decoding loop tells a draft of its tokens; it knows nothing of tensors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers.convert_slow_tokenizer import bytes_to_unicode

from paddock.inference.engine import ChosenToken, LikelyToken, ToolCall
from paddock.inference.engine_messages import ChatRequest, CompletionRequest, GenerationAnswer
from paddock.inference.local_models.generate import Choice
from paddock.inference.local_models.queue import Work
from paddock.inference.local_models.tool_calls import ToolForm, len_of_beginning

_NUM_CONTEXT_TOKENS = 8
"""A continuation is decoded behind so many of its prompt's: some tokenizers drop a space where a text begins."""

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, or not yet."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Calling(NamedTuple):
    """How this answer may call tools. `opened` is the part of a call that stands in the prompt already."""

    form: ToolForm
    opened: str = ""


class Draft:
    """The answer to one request."""

    def __init__(
        self,
        work: Work,
        tokenizer: Any,
        prompt_ids: list[int],
        end_ids: frozenset[int],
        calling: Calling | None = None,
        of_prompt: Sequence[Choice] = (),
    ) -> None:
        """`of_prompt` is what the model makes of the prompt's tokens but the first, for who wants them echoed."""
        assert isinstance(work.request, ChatRequest | CompletionRequest)
        self._work = work
        self._tokenizer = tokenizer
        self._num_prompt_tokens = len(prompt_ids)
        self._end_ids = end_ids
        self._calling = calling
        self._wants_tokens = work.request.sampling.num_likely is not None
        self._stop = work.request.sampling.stop
        # Every token is a byte at least, so a stop sequence that the last token completed lies within this many.
        self._num_stop_tokens = max((len(text.encode()) for text in self._stop), default=0) + 4
        special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
        # Some models' calls begin with a special token, which is needed to see them.
        self._hidden_ids = special - (
            set() if calling is None else {tokenizer.convert_tokens_to_ids(calling.form.opening)}
        )
        context = prompt_ids[-_NUM_CONTEXT_TOKENS:] if isinstance(work.request, CompletionRequest) else []
        self._context = [] if self._decode(context).endswith(_UNFINISHED) else context
        self._window = list(self._context)  # tokens whose text is still to be told, behind some that are for context
        self._num_told = len(self._context)
        self._text = ""
        self._num_sent = 0
        self._num_choices_sent = 0
        self._echo = ""
        self._echoed: tuple[ChosenToken, ...] = ()
        if isinstance(work.request, CompletionRequest) and work.request.echo:
            self._echo = work.request.prompt
            if self._wants_tokens:
                first, first_data = self._text_and_bytes(prompt_ids[0])
                self._echoed = (ChosenToken(first, None, first_data), *map(self._chosen, of_prompt))
            if work.pieces is not None:
                work.pieces.put(self._echo, self._echoed)

    def is_stopped(self, ids: list[int]) -> bool:
        """Whether the generated tokens hold a stop sequence."""
        if not self._stop:
            return False
        end = self._decode(ids[-self._num_stop_tokens :])
        return any(text in end for text in self._stop)

    def extend(self, ids: list[int], choices: list[Choice]) -> None:
        """A token came, and the answer goes on: send what is certain now, if anyone reads along."""
        if self._work.pieces is None:
            return
        self._window.append(ids[-1])
        text = self._decode(self._window)
        if text.endswith(_UNFINISHED):
            return
        self._text += text[len(self._decode(self._window[: self._num_told])) :]
        # What was told last is context for what comes next.
        del self._window[: self._num_told]
        self._num_told = len(self._window)
        self._send(self._num_certain(), choices)

    def finish(self, ids: list[int], choices: list[Choice], reason: str, num_prefilled_tokens: int = 0) -> None:
        """The answer is whole."""
        has_end = bool(ids) and ids[-1] in self._end_ids
        text = _cut(self._whole_text(ids[:-1] if has_end else ids), self._stop)
        calls: tuple[ToolCall, ...] = ()
        if self._calling is not None:
            parsed = self._calling.form.parse(self._calling.opened + text)
            calls = parsed.calls
            text = parsed.content if calls else text
        choices = choices[:-1] if has_end else choices
        if self._work.pieces is not None:
            self._text = text
            self._send(len(text), choices)
        self._work.finish(
            GenerationAnswer(
                text=self._echo + text,
                finish_reason="tool_calls" if calls else reason,
                num_prompt_tokens=self._num_prompt_tokens,
                num_generated_tokens=len(ids),
                num_prefilled_tokens=num_prefilled_tokens,
                tokens=(*self._echoed, *map(self._chosen, choices)) if self._wants_tokens else None,
                tool_calls=calls,
            )
        )

    def _num_certain(self) -> int:
        # A stop sequence in what was sent would have ended the answer.
        num_certain = len(self._text) - max((len_of_beginning(self._text, stop) for stop in self._stop), default=0)
        if self._calling is None:
            return num_certain
        if self._calling.opened:
            return 0
        return min(num_certain, self._calling.form.content_end(self._text))

    def _send(self, end: int, choices: list[Choice]) -> None:
        assert self._work.pieces is not None
        if end > self._num_sent:
            tokens = [self._chosen(choice) for choice in choices[self._num_choices_sent :]]
            self._work.pieces.put(self._text[self._num_sent : end], tokens)
            self._num_sent, self._num_choices_sent = end, len(choices)

    def _whole_text(self, ids: list[int]) -> str:
        before = self._decode(self._context)
        both = self._decode(self._context + ids)
        return both[len(before) :] if both.startswith(before) else self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        shown = [token_id for token_id in ids if token_id not in self._hidden_ids]
        text: str = self._tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _chosen(self, choice: Choice) -> ChosenToken:
        token, data = self._text_and_bytes(choice.token_id)
        likeliest = []
        for token_id, logprob in choice.likeliest:
            other, other_data = self._text_and_bytes(token_id)
            likeliest.append(LikelyToken(other, logprob, other_data))
        return ChosenToken(token, choice.logprob, data, tuple(likeliest))

    def _text_and_bytes(self, token_id: int) -> tuple[str, list[int] | None]:
        """A token by itself. Its bytes are None where it is part of a character and the tokenizer does not say which."""
        written: str = self._tokenizer.convert_ids_to_tokens(token_id) or ""
        if token_id in self._hidden_ids:
            return written, list(written.encode())
        if match := _BYTE_TOKEN.fullmatch(written):
            data = bytes([int(match[1], 16)])
            return data.decode(errors="replace"), list(data)
        if _SPACE in written:  # alone, its decoder would drop it
            text = written.replace(_SPACE, " ")
        else:
            text = self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        if _UNFINISHED not in text:
            return text, list(text.encode())
        numbers = [_byte_of_letter().get(letter) for letter in written]
        return text, None if None in numbers else [number for number in numbers if number is not None]


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """How byte-level tokenizers write bytes as letters (Radford et al. 2019, section 2.2)."""
    return {letter: number for number, letter in bytes_to_unicode().items()}


def _cut(text: str, stop: tuple[str, ...]) -> str:
    places = [text.find(sequence) for sequence in stop if sequence in text]
    return text[: min(places)] if places else text

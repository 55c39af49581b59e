"""Whether a conversation can be learnt by a model, as far as a submission can tell: by its chat template and its length."""

from __future__ import annotations

from pathlib import Path

from paddock import hub
from paddock.post_training import source
from paddock.post_training.chat_template import ChatTemplate
from paddock.post_training.config import Config
from paddock.post_training.light_tokenizer import LightTokenizer, UnsureError
from paddock.post_training.rows import Conversation, RowError

_MARGIN = 1.05
"""The full tokenizer may come to a few tokens less: a prompt that is hardly too long is left to the job."""


class Preview:
    """Conversations before the tokenizer of the model in `folder`; its chat template is there."""

    def __init__(self, folder: Path, asked: Config) -> None:
        self._tokenizer = LightTokenizer(folder)
        self._template: ChatTemplate | None = ChatTemplate(self._tokenizer, asked.model_id)
        self._max_tokens = source.sequence_limit(hub.read_config(folder, asked.model_id), asked.max_seq_len)
        self._learns_prompts = asked.train_on_input

    def check(self, conversation: Conversation) -> None:
        """Raise `RowError` for a conversation of which nothing can be learnt, or which the template refuses."""
        if self._template is None:
            return
        try:
            text, spans = self._template.render(conversation)
        except UnsureError:
            # Nor would it be of the next one.
            self._template = None
            return
        if self._learns_prompts:
            return
        begin = next((begin for begin, end in spans if end > begin), None)
        if begin is None:
            raise RowError("the model's chat template leaves nothing of its answer")
        prompt = text[:begin]
        # No token is of less than a byte, and nearly all prompts are short.
        if len(prompt.encode()) < self._max_tokens:
            return
        num_tokens = self._tokenizer.num_tokens(prompt)
        if num_tokens is not None and num_tokens >= self._max_tokens * _MARGIN:
            raise RowError(
                f"no token of its answer is left within {self._max_tokens} tokens: {num_tokens} come before it"
            )

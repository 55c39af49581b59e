"""The answer mask is exact: what is learnt decodes to the answers and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.post_training import rows, tokens
from paddock.post_training.rows import Conversation
from tiny_models import CHAT_TEMPLATE, save_byte_tokenizer

UNMARKED = CHAT_TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
REVERSED = "{% for message in messages | reverse %}{{ message['content'] }}<|end|>{% endfor %}"

ROW = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Grüße? 你好"},
        {"role": "assistant", "content": "Grüße! 👋"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "  spaces kept  "},
    ]
}


def _tokenizer(folder: Path, template: str | None) -> Any:
    from transformers import AutoTokenizer

    save_byte_tokenizer(folder, template)
    return AutoTokenizer.from_pretrained(folder)


def _tokenize(tokenizer: Any, conversation: Conversation, **more: Any) -> tokens.TokenizedRow:
    (row,) = tokens.tokenize(
        [(7, conversation)], tokenizer, dataset_id="d", model_id="m", **({"max_seq_len": 512} | more)
    )
    return row


def _learnt(tokenizer: Any, row: tokens.TokenizedRow) -> str:
    return str(tokenizer.decode([label for label in row.labels if label != tokens.IGNORED]))


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, UNMARKED])
@pytest.mark.parametrize(
    ("data_format", "learnt"),
    [("dialog", "Grüße! 👋<|end|>  spaces kept  <|end|>"), ("instruct", "  spaces kept  <|end|>")],
)
def test_only_answers_are_learnt(tmp_path: Path, template: str, data_format: str, learnt: str) -> None:
    tokenizer = _tokenizer(tmp_path, template)
    row = _tokenize(tokenizer, rows.conversation(ROW, data_format))
    assert _learnt(tokenizer, row) == learnt
    assert tokenizer.decode(list(row.ids)) == (
        "<|system|>Be brief.<|end|><|user|>Grüße? 你好<|end|><|assistant|>Grüße! 👋<|end|>"
        "<|user|>again<|end|><|assistant|>  spaces kept  <|end|>"
    )


def test_train_on_input_learns_everything_that_can_be_foretold(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, CHAT_TEMPLATE)
    row = _tokenize(tokenizer, rows.conversation(ROW, "dialog"), train_on_input=True)
    assert list(row.labels[1:]) == list(row.ids[1:])
    assert row.labels[0] == tokens.IGNORED


def test_long_rows_are_cut_at_the_end_and_counted(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, CHAT_TEMPLATE)
    whole = _tokenize(tokenizer, rows.conversation(ROW, "dialog"))
    cut = _tokenize(tokenizer, rows.conversation(ROW, "dialog"), max_seq_len=40)
    assert (len(cut), cut.is_truncated, whole.is_truncated) == (40, True, False)
    assert cut.ids == whole.ids[:40]
    with pytest.raises(InvalidRequestError, match=r"Row 7 .* no token of its answer is left within 20"):
        _tokenize(tokenizer, rows.conversation(ROW, "dialog"), max_seq_len=20)


@pytest.mark.parametrize(("template", "words"), [(None, "no chat template"), (REVERSED, "no beginning of the whole")])
def test_templates_that_cannot_tell_the_answer_are_refused(tmp_path: Path, template: str | None, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        _tokenize(_tokenizer(tmp_path, template), rows.conversation(ROW, "dialog"))


CHATML = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n\n' }}{% endif %}"
)


def test_white_space_around_answers_is_told_from_them(tmp_path: Path) -> None:
    """A header ends in line feeds, an answer in spaces, and the tokenizer trims white space off its offsets."""
    from tokenizers import processors

    tokenizer = _tokenizer(tmp_path, CHATML)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    row = _tokenize(tokenizer, rows.conversation(ROW, "dialog"))
    # The line feed behind the closing token is the template's: the model stops at the token.
    assert _learnt(tokenizer, row) == "Grüße! 👋<|end|>  spaces kept  <|end|>"

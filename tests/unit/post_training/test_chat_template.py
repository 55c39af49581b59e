"""Where answers stand in a conversation's text, whatever way a template writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from paddock.post_training.chat_template import ChatTemplate
from paddock.post_training.rows import Conversation, RowError
from tiny_models import save_byte_tokenizer

USER = {"role": "user", "content": "so?"}
YES, NO = ({"role": "assistant", "content": content} for content in ("yes", "no\nno"))
TALK = (USER, YES, USER, NO)


def _template(folder: Path, template: str) -> tuple[ChatTemplate, Any]:
    save_byte_tokenizer(folder, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return ChatTemplate(tokenizer, "m"), tokenizer


def _answers(template: ChatTemplate, conversation: Conversation) -> list[str]:
    text, spans = template.render(conversation)
    return [text[slice(*span)] for span in spans]


MARKED = {
    "plain": "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}",
    # The library alone would count from where the macro was called, header left out.
    "in a macro": "{% macro turn(m) %}<|{{ m['role'] }}|>{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
    "{% endmacro %}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ turn(m) }}{% else %}{{ m['content'] }}"
    "{% endif %}{% endfor %}",
    "captured": "{% for m in messages %}{% set said %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "<|end|>{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endset %}<|{{ m['role'] }}|>{{ said }}{% endfor %}",
    "on many lines": """
{%- for m in messages %}
    {{- '<|' + m['role'] + '|>' }}
    {%- if m['role'] == 'assistant' %}
        {%- generation %}
        {{- m['content'] }}
        {{- '<|end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- m['content'] }}
    {%- endif %}
{%- endfor %}""",
    "with trimmed lines": """{% for m in messages %}
<|{{ m['role'] }}|>
    {% if m['role'] == 'assistant' %}
    {% generation %}
{{ m['content'] }}<|end|>
    {%- endgeneration -%}
    {% else %}
{{ m['content'] }}
    {% endif %}
{% endfor %}""",
}


@pytest.mark.parametrize("name", MARKED)
def test_marked_answers(tmp_path: Path, name: str) -> None:
    template, tokenizer = _template(tmp_path, MARKED[name])
    assert _answers(template, Conversation(TALK, num_prompt=0)) == ["yes<|end|>", "no\nno<|end|>"]
    # With an answer in the prompt, only the later ones.
    assert _answers(template, Conversation(TALK, num_prompt=3)) == ["no\nno<|end|>"]
    # And the text is the template's own, without the marks.
    text, _ = template.render(Conversation(TALK, num_prompt=0))
    assert text == tokenizer.apply_chat_template(list(TALK), tokenize=False)


def test_earlier_thoughts_that_are_dropped(tmp_path: Path) -> None:
    template, _ = _template(
        tmp_path,
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}<|end|>{% endgeneration %}"
        "{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}",
    )
    thought = {"role": "assistant", "content": "<think>hm</think>yes"}
    talk = (USER, thought, USER, thought)
    assert _answers(template, Conversation(talk, num_prompt=0)) == ["yes<|end|>", "<think>hm</think>yes<|end|>"]
    assert _answers(template, Conversation(talk, num_prompt=3)) == ["<think>hm</think>yes<|end|>"]


def test_answers_are_told_by_difference(tmp_path: Path) -> None:
    template, _ = _template(
        tmp_path,
        "{% for m in messages %}<|{{ m['role'] }}|>\n\n{{ m['content'] }}<|end|>\n\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}",
    )
    text, spans = template.render(Conversation(TALK, num_prompt=0))
    # One line break behind a tag is the template language's own to take.
    assert [text[slice(*span)].strip() for span in spans] == ["yes<|end|>", "no\nno<|end|>"]
    assert [text[slice(*span)] for span in spans] == [text[slice(*span)].rstrip() for span in spans]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[-1]['content'] }}", "does not let turn 1 be told from the rest"),
        ("{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}", "no beginning of the whole"),
        ("{{ raise_exception('roles must alternate') }}", "refuses it: roles must alternate"),
        (
            "{% for m in messages %}{% generation %}{{ (m['content'] ~ undefined.x) }}{% endgeneration %}{% endfor %}",
            "refuses",
        ),
        (
            "{% set all %}{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
            "{% endset %}{{ all | length }}",
            "does not let its answers be marked",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, template: str, words: str) -> None:
    with pytest.raises(RowError, match=words):
        _template(tmp_path, template)[0].render(Conversation(TALK, num_prompt=0))

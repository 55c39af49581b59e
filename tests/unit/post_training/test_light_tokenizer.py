"""The light tokenizer says what the full one does, or that it does not know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import AutoTokenizer

from paddock.inference.engine import Model
from paddock.post_training.light_tokenizer import LightTokenizer, UnsureError
from paddock.wiring import Resources
from tiny_models import CHAT_TEMPLATE
from training_office import add_dataset, chats, sft_request, submit, training

CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"ä": [1, 2.0]}}}]}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "<b>2 + 2</b>?\n"},
    CALL,
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "4"},
]

TEMPLATES = {
    "generation blocks": CHAT_TEMPLATE,
    "white space": "{% for m in messages %}\n  {% if m.role == 'user' %}\n  {{ m.content }}\n  {% endif %}\n{% endfor %}",
    "stripped": "{% for m in messages %}\n {%- generation -%}\n {{ m.content }}\n{%- endgeneration %} \n{% endfor %}",
    "json": "{{ messages | tojson }} {{ messages[2].tool_calls | tojson(indent=2) }}",
    "breaks": "{% for m in messages %}{% if loop.index0 == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "namespaces": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "special tokens": "{{ pad_token }}{% for m in messages %}{{ m['content'] | trim }}{{ eos_token }}{% endfor %}",
    "tools": "{% if tools is not none %}tools{% endif %}{{ messages[0]['content'] }}",
    "date": "{{ strftime_now('%Y') }}",
}


def _with_template(tiny_llama: Path, folder: Path, template: str) -> Path:
    shutil.copytree(tiny_llama, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("asks", [False, True])
def test_it_renders_as_the_full_one(tiny_llama: Path, tmp_path: Path, template: str, asks: bool) -> None:
    folder = _with_template(tiny_llama, tmp_path / "model", template)
    light, full = LightTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert light.get_chat_template() == full.get_chat_template()
    rendered = light.apply_chat_template(MESSAGES, chat_template=template, add_generation_prompt=asks)
    assert rendered == full.apply_chat_template(MESSAGES, add_generation_prompt=asks, tokenize=False)
    assert set(full.all_special_tokens) == set(light.all_special_tokens)


def test_it_counts_as_the_full_one(tiny_llama: Path) -> None:
    text = "<|user|>Grüße, 世界!<|end|>"
    full = AutoTokenizer.from_pretrained(tiny_llama)
    assert LightTokenizer(tiny_llama).num_tokens(text) == len(full(text, add_special_tokens=False)["input_ids"])


def test_templates_are_found_where_tokenizers_keep_them(tiny_llama: Path, tmp_path: Path) -> None:
    folder = _with_template(tiny_llama, tmp_path / "model", "{{ 1 }}")
    assert LightTokenizer(folder).chat_template == "{{ 1 }}"
    (folder / "chat_template.jinja").unlink()
    assert LightTokenizer(folder).chat_template is None
    config = json.loads((folder / "tokenizer_config.json").read_text())

    def configured(template: Any) -> str | None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
        return LightTokenizer(folder).chat_template

    assert configured("{{ 2 }}") == "{{ 2 }}"
    assert (
        configured([{"name": "tool_use", "template": "{{ 3 }}"}, {"name": "default", "template": "{{ 4 }}"}])
        == "{{ 4 }}"
    )
    assert configured([{"name": "tool_use", "template": "{{ 3 }}"}]) is None


def test_only_what_a_template_says_itself_is_a_refusal(tiny_llama: Path) -> None:
    light = LightTokenizer(tiny_llama)
    with pytest.raises(jinja2.TemplateError, match="turns"):
        light.apply_chat_template(MESSAGES, chat_template="{{ raise_exception('turns') }}")
    for template in ("{{ bos_token + 'x' }}", "{{ messages | unknown }}", "{{ messages[9].content }}", "{% for %}"):
        with pytest.raises(UnsureError):
            light.apply_chat_template(MESSAGES, chat_template=template)


def test_what_it_does_not_know_is_left_to_the_job(resources: Resources, tiny_llama: Path, tmp_path: Path) -> None:
    folder = _with_template(tiny_llama, tmp_path / "model", "{{ own_variable + 'x' }}")
    resources.inference.models.register(Model("odd", "local", str(folder)))
    add_dataset(resources, "chats", chats(4))
    assert submit(resources, sft_request("job", training("chats"), model="odd")).status == "scheduled"


def test_a_vocabulary_that_only_the_full_one_reads_is_left_to_it(tiny_llama: Path, tmp_path: Path) -> None:
    folder = _with_template(tiny_llama, tmp_path / "model", CHAT_TEMPLATE)
    (folder / "tokenizer.json").write_text("{}")
    assert LightTokenizer(folder).num_tokens("x") is None

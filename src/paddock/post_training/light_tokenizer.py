"""A model's tokenizer as far as a submission needs it, without transformers: its chat template, and how many tokens a long
text has. What the full one, which takes seconds to load, may see in another way is left to the job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from paddock import wire

_VOCABULARIES = ("tokenizer.json", "*.model", "vocab*", "tekken.json")


class UnsureError(Exception):
    """What the full tokenizer would say is not known here."""


def is_in(folder: Path) -> bool:
    """Whether a model's folder holds a tokenizer: one of the files in which a vocabulary lies."""
    return any(any(folder.glob(pattern)) for pattern in _VOCABULARIES)


class LightTokenizer:
    """What `ChatTemplate` asks of a tokenizer, from the files in `folder`. `chat_template` is None where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = _read(folder / "tokenizer_config.json")
        self.chat_template = _template(folder, config)
        named = {k: _content(v) for k, v in config.items() if k.endswith("_token")}
        self._named_tokens = {name: token for name, token in named.items() if token is not None}
        more = [*_listed(config.get("extra_special_tokens")), *_listed(config.get("additional_special_tokens"))]
        self.all_special_tokens = [*self._named_tokens.values(), *more]
        self._templates: dict[str, jinja2.Template] = {}

    def get_chat_template(self) -> str:
        """The template that conversations are rendered by."""
        assert self.chat_template is not None
        return self.chat_template

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        chat_template: str,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
    ) -> str:
        """The text of a conversation. Raises `jinja2.TemplateError` if the template itself refuses it, and `UnsureError` if
        the template fails otherwise: it may ask for what only the full tokenizer has."""
        assert not tokenize
        try:
            if chat_template not in self._templates:
                self._templates[chat_template] = _environment().from_string(chat_template)
            return self._templates[chat_template].render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._named_tokens,
            )
        except _RefusalError:
            raise
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnsureError(str(error)) from error

    def num_tokens(self, text: str) -> int | None:
        """How many tokens a text has; None where that takes the full tokenizer."""
        return None if self._tokens is None else len(self._tokens.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokens(self) -> Any:
        if find_spec("tokenizers") is None:
            return None
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception:  # the library raises no other class, for a file that is missing or that it does not know
            return None


class _RefusalError(jinja2.TemplateError):
    """A template's own `raise_exception`."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` blocks, which mark answers: here they are what is in them."""

    tags = {"generation"}  # noqa: RUF012  # as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """What templates of the Hugging Face hub are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )

    def to_json(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def refuse(message: Any) -> None:
        raise _RefusalError(str(message))

    def now(form: str) -> str:
        return datetime.now().strftime(form)  # of this machine, as the full tokenizer has it

    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    return environment


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The template in a file of its own, or in the tokenizer's configuration: of several, the one called `default`."""
    try:
        return (folder / "chat_template.jinja").read_text()
    except (OSError, ValueError):
        given = config.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(given, list):
        given = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
    if isinstance(given, dict):
        given = given.get("default")
    return given if isinstance(given, str) and given else None


def _read(file: Path) -> dict[str, Any]:
    try:
        value = wire.from_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str | None:
    """A special token stands as a text, or as an object with its text and how it is cut off."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _listed(tokens: Any) -> list[str]:
    return [text for text in map(_content, tokens if isinstance(tokens, list) else []) if text is not None]

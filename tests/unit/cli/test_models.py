"""`paddock models` and `paddock rerank` against the real app."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def test_register_list_delete(invoke: Invoke, tiny_llama: Path) -> None:
    assert invoke("models", "register", "my/tiny", "--path", tiny_llama).output == "my/tiny is registered.\n"
    assert "my/tiny" in invoke("models", "list").output
    listed = json.loads(invoke("models", "list", "--json").output)["data"]
    assert [model["identifier"] for model in listed] == ["my/tiny"]
    shown = json.loads(invoke("models", "show", "my/tiny", "--json").output)
    assert (shown["provider_resource_id"], shown["metadata"]) == (str(tiny_llama), {})
    invoke("models", "delete", "my/tiny")
    assert json.loads(invoke("models", "list", "--json").output)["data"] == []


def test_metadata_is_kept(invoke: Invoke) -> None:
    words = ("models", "register", "m", "--provider", "lab", "--metadata", '{"licence": "MIT"}')
    invoke(*words)
    assert json.loads(invoke("models", "show", "m", "--json").output)["metadata"] == {"licence": "MIT"}
    assert "cannot be read" in invoke(*words[:-1], "{licence", code=2).output


@pytest.mark.parametrize(
    "words", [[], ["--path", "/x", "--hub", "a/b"], ["--hub", "a/b", "--name", "x"], ["--hub", "a/b", "--type", "x"]]
)
def test_where_a_model_is_must_be_said_once(invoke: Invoke, words: list[str]) -> None:
    assert invoke("models", "register", "m", *words, code=2).output.startswith("Usage:")


def test_a_refusal_names_the_field(invoke: Invoke) -> None:
    output = invoke("models", "register", "m", "--provider", "nobody", "--name", "x", code=1).output
    assert output.startswith("Error: ")
    assert "provider_id" in output


def test_reranking_with_an_unknown_model_is_one_sentence(invoke: Invoke) -> None:
    output = invoke("rerank", "--model", "nobody", "--query", "q", "a", "b", code=1).output
    assert output.startswith("Error: ")
    assert "nobody" in output

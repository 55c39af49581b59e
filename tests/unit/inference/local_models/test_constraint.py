"""Answers of a random model, held to JSON and to schemas, whatever it would say by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Sampling, Tools
from paddock.inference.engine_messages import ChatRequest, GenerationAnswer, LocalModel
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from tiny_models import CHAT_TEMPLATE, make_llama, save_byte_tokenizer

FILES = ModelFiles(Path("/nowhere"), {}, None)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}

MANY = {
    "anyOf": [
        {"type": "object", "properties": {f"{kind}-{field}": {"type": "string"} for field in range(30)}}
        for kind in range(300)
    ]
}


@pytest.fixture(scope="module")
def tiny(tiny_llama: Path) -> LanguageModel:
    weights = Weights(tiny_llama, "cpu", torch.float32)
    return LanguageModel("tiny", weights, weights.variant(None))


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A random model whose template teaches calls as Hermes' does."""
    folder = make_llama(tmp_path_factory.mktemp("caller"))
    (folder / "chat_template.jinja").unlink()
    save_byte_tokenizer(
        folder, "{% for tool in tools or [] %}{{ tool.function.name }} <tool_call>{% endfor %}" + CHAT_TEMPLATE
    )
    weights = Weights(folder, "cpu", torch.float32)
    return LanguageModel("caller", weights, weights.variant(None))


def ask(model: LanguageModel, *requests: tuple[Sampling, Tools | None], max_rows: int = 8) -> list[GenerationAnswer]:
    messages = [{"role": "user", "content": "hi"}]
    works = [Work(ChatRequest(LocalModel("m", "/m"), messages, sampling, tools), FILES) for sampling, tools in requests]
    model.generate(list(works), lambda _limit: [], max_rows=max_rows)
    answers = [work.answer.result(timeout=0) for work in works]
    assert all(isinstance(answer, GenerationAnswer) for answer in answers)
    return answers  # type: ignore[return-value]  # all are, as was just asserted


def of_schema(schema: Any, **sampling: Any) -> Sampling:
    named = {"name": "answer", "schema": schema}
    knobs: dict[str, Any] = {"max_tokens": 300, "temperature": 1.0} | sampling
    return Sampling(response_format={"type": "json_schema", "json_schema": named}, **knobs)


def test_answers_are_of_the_schema(tiny: LanguageModel) -> None:
    answers = ask(tiny, *((of_schema(PERSON, seed=seed), None) for seed in range(12)))
    for answer in answers:
        jsonschema.validate(json.loads(answer.text), PERSON)
        assert answer.finish_reason == "stop"
    assert len({answer.text for answer in answers}) > 6


def test_an_object_of_any_kind(tiny: LanguageModel) -> None:
    sampling = Sampling(response_format={"type": "json_object"}, max_tokens=400, temperature=1.0, seed=3)
    (answer,) = ask(tiny, (sampling, None))
    assert answer.text.lstrip().startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.text), dict)


def test_limits_are_each_rows_own(tiny: LanguageModel) -> None:
    """Beside an answer that is held to a schema, the others say what they say alone."""
    free = Sampling(max_tokens=60, temperature=1.0, seed=5)
    number = of_schema({"type": "integer", "minimum": 10, "maximum": 99}, seed=1)
    ((alone,), (first, between, last)) = ask(tiny, (free, None)), ask(tiny, (free, None), (number, None), (free, None))
    assert first.text == last.text == alone.text
    assert 10 <= int(between.text) <= 99
    assert between.num_generated_tokens <= 3  # nothing more may follow, so it ends


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "no such type"}, "schema cannot be used"),
        ({"type": "string", "pattern": "("}, "schema cannot be used"),
        ({"$ref": "http://127.0.0.1/schema.json"}, "schema cannot be used"),
        ({"not": {"type": "string"}}, "schema cannot be used"),
        ({"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}b.*"} for i in range(1, 15)]}, "schema cannot be used"),
        (MANY, "schema cannot be held to"),  # which shows once it is tried
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_by_its_place(tiny: LanguageModel, schema: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        ask(tiny, (of_schema(schema), None))
    assert caught.value.errors[0].pointer == "/response_format/json_schema/schema"


def test_a_required_tool_is_called(caller: LanguageModel) -> None:
    functions = tuple(
        {"type": "function", "function": {"name": name, "parameters": PERSON}} for name in ("greet", "forget")
    )
    for required in (("greet", "forget"), ("forget",)):
        tools = Tools(functions, required)
        for answer in ask(caller, *((Sampling(max_tokens=400, temperature=1.0, seed=s), tools) for s in range(4))):
            (call,) = answer.tool_calls
            assert call.name in required
            jsonschema.validate(json.loads(call.arguments), PERSON)
            assert (answer.text, answer.finish_reason) == ("", "tool_calls")


def test_tools_are_refused_where_the_template_takes_none(tiny: LanguageModel, caller: LanguageModel) -> None:
    tools = Tools(({"type": "function", "function": {"name": "f"}},))
    with pytest.raises(InvalidRequestError, match="The chat template of tiny takes no tools") as caught:
        ask(tiny, (Sampling(max_tokens=3), tools))
    assert caught.value.errors[0].pointer == "/tools"
    with pytest.raises(InvalidRequestError, match="either may call tools"):
        ask(caller, (of_schema(PERSON), tools))
    (answer,) = ask(caller, (Sampling(max_tokens=3), tools))
    assert answer.num_prompt_tokens == len("hi") + 3 + len("f <tool_call>")  # the template told of them

"""The fields of rerank: texts reach every ranker, images those of other servers."""

from __future__ import annotations

from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field

PATH = "/v1alpha/inference/rerank"
TEXT_PART = "<OpenAIChatCompletionContentPartTextParam>"
IMAGE_PART = "<OpenAIChatCompletionContentPartImageParam>"
QUERY = "query"
ITEM = "items[]"

URL = "https://images.example.org/one.png"


def _ranked(body: dict[str, Any]) -> Any:
    """The other side finds later documents better."""
    return {"results": [{"index": i, "relevance_score": float(i)} for i in range(len(body["documents"]))]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(url: str = URL, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def _in_vllm_s_form(image: dict[str, Any]) -> dict[str, Any]:
    return {"content": [image]}


def _body(where: str, content: Any, model: str = "ranker") -> dict[str, Any]:
    """A request with this content as its query, or as its second item."""
    if where == QUERY:
        return {"model": model, "query": content, "items": ["a", "b"]}
    return {"model": model, "query": "q", "items": ["a", content]}


def _sent(lab: Lab, where: str, content: Any) -> Any:
    """How the other side gets this content."""
    lab.answer = _ranked
    lab.call("POST", PATH, _body(where, content))
    body = lab.asked()[-1]
    return body["query"] if where == QUERY else body["documents"][1]


def _score(lab: Lab, where: str, content: Any) -> float:
    """The relevance that a model of this machine finds in the second item."""
    data = lab.call("POST", PATH, _body(where, content, "tiny"))["data"]
    score: float = next(item["relevance_score"] for item in data if item["index"] == 1)
    return score


@field("rerank model string")
def model(lab: Lab) -> None:
    lab.answer = _ranked
    for name in ("ranker", "other-ranker"):
        lab.call("POST", PATH, _body(QUERY, "q", name))
        assert lab.asked()[-1]["model"] == name
    assert lab.call("POST", PATH, _body(QUERY, "q", "tiny"))["data"][0]["relevance_score"] < 0  # a log-likelihood


@field("rerank query<string> string", where=QUERY)
@field("rerank items[]<string> string", where=ITEM)
def text(lab: Lab, where: str) -> None:
    for content in ("horse", "a city"):
        assert _sent(lab, where, content) == content
    assert _score(lab, where, "horse") != _score(lab, where, "a city")


@field(f"rerank query{TEXT_PART}.text string", where=QUERY)
@field(f"rerank items[]{TEXT_PART}.text string", where=ITEM)
def text_of_part(lab: Lab, where: str) -> None:
    for content in ("horse", "a city"):
        assert _sent(lab, where, _text(content)) == content
        assert _score(lab, where, _text(content)) == _score(lab, where, content)
    assert _score(lab, where, _text("horse")) != _score(lab, where, _text("a city"))


@field(f"rerank query{TEXT_PART}.type string", where=QUERY)
@field(f"rerank query{IMAGE_PART}.type string", where=QUERY)
@field(f"rerank items[]{TEXT_PART}.type string", where=ITEM)
@field(f"rerank items[]{IMAGE_PART}.type string", where=ITEM)
def type_of_part(lab: Lab, where: str) -> None:
    """Text and image are each other's alternative, whatever else the part holds; there is no third."""
    both = _image() | _text("horse")
    assert _sent(lab, where, both | {"type": "text"}) == "horse"
    assert _sent(lab, where, both | {"type": "image_url"}) == _in_vllm_s_form(_image())
    refusals = lab.refusals("POST", PATH, _body(where, both | {"type": "sound"}))
    place = "/query/type" if where == QUERY else "/items/1/type"
    assert [message for pointer, message in refusals if pointer == place] == [
        "Input should be 'text'",
        "Input should be 'image_url'",
    ]


@field(f"rerank query{IMAGE_PART}.image_url.url string", where=QUERY)
@field(f"rerank items[]{IMAGE_PART}.image_url.url string", where=ITEM)
def image_url(lab: Lab, where: str) -> None:
    for url in (URL, "data:image/png;base64,iVBORw0KGgo="):
        assert _sent(lab, where, _image(url)) == _in_vllm_s_form(_image(url))
    _refused_by_a_text_model(lab, where, _image())


@field(f"rerank query{IMAGE_PART}.image_url.detail string", where=QUERY)
@field(f"rerank items[]{IMAGE_PART}.image_url.detail string", where=ITEM)
def image_detail(lab: Lab, where: str) -> None:
    for detail in ("low", "high"):
        assert _sent(lab, where, _image(detail=detail)) == _in_vllm_s_form(_image(detail=detail))
    _refused_by_a_text_model(lab, where, _image(detail="low"))


def _refused_by_a_text_model(lab: Lab, where: str, image: dict[str, Any]) -> None:
    pointer, message = lab.refusal("POST", PATH, _body(where, image, "tiny"))
    assert pointer == ("/query" if where == QUERY else "/items/1")
    assert "tiny ranks text only" in message


@field("rerank max_num_results integer")
def max_num_results(lab: Lab) -> None:
    lab.answer = _ranked
    body = {"model": "ranker", "query": "q", "items": ["a", "b", "c"]}
    for count in (1, 2):
        ranked = lab.call("POST", PATH, body | {"max_num_results": count})["data"]
        assert [item["index"] for item in ranked] == [2, 1][:count]

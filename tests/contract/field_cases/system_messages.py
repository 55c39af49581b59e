"""The candidate's system message: a text, an item of text or image, or a list of such items."""

from __future__ import annotations

import base64
from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.operations import ROWS, config, config_field, evaluate, refusal, request
from tiny_models import png_url

MESSAGE = "eval_candidate.system_message"
ITEM = f"{MESSAGE}.content<ImageContentItem-Input | TextContentItem>"
ITEMS = f"{MESSAGE}.content<list[ImageContentItem-Input | TextContentItem]>[]"

URI = "https://images.example.org/one.png"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n one").decode()
GIF = base64.b64encode(b"GIF89a another").decode()


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(**image: Any) -> dict[str, Any]:
    return {"type": "image", "image": image}


def _sent(lab: Lab, operation: str, content: Any) -> Any:
    """The content of the system turn that the other side gets, which stands in front of the row's."""
    (body,) = evaluate(lab, operation, config(system={"role": "system", "content": content}), rows=ROWS[:1]).asked
    system, user = body["messages"]
    assert user == {"role": "user", "content": ROWS[0]["question"]}
    assert system["role"] == "system"
    return system["content"]


def _said(lab: Lab, operation: str, content: Any, model: str = "tiny") -> str:
    """What a model on this machine says under such a system message."""
    asked = config(model, sampling={"max_tokens": 12}, system={"role": "system", "content": content})
    return evaluate(lab, operation, asked, rows=ROWS[:1]).texts[0]


@config_field(f"{MESSAGE}.role string")
def role(lab: Lab, operation: str) -> None:
    assert _sent(lab, operation, "Be brief.") == "Be brief."
    (body,) = evaluate(lab, operation, config(), rows=ROWS[:1]).asked
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    pointer, message = refusal(lab, operation, config(system={"role": "user", "content": "Be brief."}))
    assert pointer == f"/{MESSAGE.replace('.', '/')}/role"
    assert "system" in message


@config_field(f"{MESSAGE}.content<string> string")
def content(lab: Lab, operation: str) -> None:
    for text in ("Be brief.", "Be long."):
        assert _sent(lab, operation, text) == text
    assert _said(lab, operation, "Be brief.") != _said(lab, operation, "Speak at length, please.")


def _in(where: str, item: dict[str, Any]) -> Any:
    """The item as the line's content has it: alone, or in a list behind another."""
    return item if where == ITEM else [_text("first"), item]


def _sent_item(lab: Lab, operation: str, where: str, item: dict[str, Any]) -> Any:
    parts = _sent(lab, operation, _in(where, item))
    assert parts[:-1] == ([] if where == ITEM else [_text("first")])
    return parts[-1]


def _refused_item(lab: Lab, operation: str, where: str, item: dict[str, Any], model: str = "pupil") -> tuple[str, str]:
    """Pointer, below the item, and message of an item that is refused."""
    pointer, message = refusal(lab, operation, config(model, system={"content": _in(where, item)}))
    assert pointer.startswith(_place(where))
    return pointer.removeprefix(_place(where)), message


def _place(where: str) -> str:
    return f"/{MESSAGE.replace('.', '/')}/content" + ("" if where == ITEM else "/1")


def _item_type(lab: Lab, operation: str, where: str) -> None:
    """Text and image are each other's alternative."""
    assert _sent_item(lab, operation, where, _image(url={"uri": URI}) | {"text": "see"})["type"] == "image_url"
    both = {"text": "see", "image": {"url": {"uri": URI}}}
    assert _sent_item(lab, operation, where, {"type": "text"} | both) == _text("see")
    wrong = config(system={"content": _in(where, {"type": "sound"} | both)})
    refusals = lab.refusals(*request(lab, operation, wrong))
    assert any("sound" in message for pointer, message in refusals if pointer.endswith(_place(where)))


def _image_uri(lab: Lab, operation: str, where: str) -> None:
    for uri in (URI, "https://images.example.org/two.png"):
        part = _sent_item(lab, operation, where, _image(url={"uri": uri}))
        assert part == {"type": "image_url", "image_url": {"url": uri}}
    said = {
        pattern: _said(lab, operation, _in(where, _image(url={"uri": png_url(pattern)})), "seer")
        for pattern in ("red", "stripes")
    }
    assert len(set(said.values())) == 2
    pointer, message = _refused_item(lab, operation, where, _image(url={"uri": URI}), model="seer")
    assert pointer == "/image"
    assert "dataset_hosts" in message
    _refused_by_a_text_model(lab, operation, where, _image(url={"uri": URI}))


def _image_data(lab: Lab, operation: str, where: str) -> None:
    for data, media_type in ((PNG, "image/png"), (GIF, "image/gif")):
        part = _sent_item(lab, operation, where, _image(data=data))
        assert part == {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}
    said = {
        pattern: _said(lab, operation, _in(where, _image(data=png_url(pattern).partition(",")[2])), "seer")
        for pattern in ("red", "stripes")
    }
    assert len(set(said.values())) == 2
    _refused_by_a_text_model(lab, operation, where, _image(data=PNG))
    pointer, message = _refused_item(lab, operation, where, _image(data="bm8gaW1hZ2U="))
    assert pointer == "/image"
    assert "neither PNG" in message


def _refused_by_a_text_model(lab: Lab, operation: str, where: str, item: dict[str, Any]) -> None:
    pointer, message = _refused_item(lab, operation, where, item, model="tiny")
    assert pointer == "/image"
    assert "tiny" in message


def _item_text(lab: Lab, operation: str, where: str) -> None:
    for text in ("Be brief.", "Be long."):
        assert _sent_item(lab, operation, where, _text(text)) == _text(text)
    said = {text: _said(lab, operation, _in(where, _text(text))) for text in ("Be brief.", "Speak at length, please.")}
    assert len(set(said.values())) == 2


for _where in (ITEM, ITEMS):
    for _kind in ("ImageContentItem", "TextContentItem"):
        config_field(f"{_where}<{_kind}>.type string", where=_where)(_item_type)
    config_field(f"{_where}<ImageContentItem>.image.url.uri string", where=_where)(_image_uri)
    config_field(f"{_where}<ImageContentItem>.image.data string", where=_where)(_image_data)
    config_field(f"{_where}<TextContentItem>.text string", where=_where)(_item_text)

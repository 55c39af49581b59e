"""Images from a request's bytes to a model's answer, with real tiny models that see."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Sampling
from paddock.inference.engine_messages import ChatRequest, CompletionRequest, GenerationAnswer, LocalModel
from paddock.inference.local_models import images
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from tiny_models import make_idefics3, make_llava, png_url

MODEL = LocalModel("seer", "/nowhere")
NUM_TOKENS_OF_IMAGE = 4


def load(folder: Path) -> LanguageModel:
    weights = Weights(folder, "cpu", torch.float32, sees=True)
    return LanguageModel("seer", weights, weights.variant(None))


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(make_llava(tmp_path_factory.mktemp("llava")))


def shown(*urls: str, text: str = "see?") -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def work(messages: list[dict[str, Any]], max_tokens: int = 12) -> Work:
    return Work(ChatRequest(MODEL, messages, Sampling(max_tokens=max_tokens)), ModelFiles(Path("/nowhere"), {}, None))


def answers(model: LanguageModel, *works: Work) -> list[GenerationAnswer]:
    """What comes of works that are there at once."""
    model.generate(list(works), lambda _limit: [], max_rows=4)
    found = [each.answer.result(timeout=0) for each in works]
    assert all(isinstance(answer, GenerationAnswer) for answer in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("make", "token"), [(make_llava, "<|image|>"), (make_idefics3, "<image>")])
def test_the_answer_is_that_of_transformers(make: Callable[[Path], Path], token: str, tmp_path: Path) -> None:
    """Token for token, against the library's own greedy loop on the same pixels; Idefics3 reads them in five tiles."""
    folder = make(tmp_path)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    text = f"<|user|>{token}see?<|end|><|assistant|>"
    inputs = processor(images=[Image.new("RGB", (60, 40), "red")], text=text, return_tensors="pt")
    expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    found = answers(
        load(folder), *(work(shown(png_url(pattern, width=60, height=40))) for pattern in ("red", "stripes"))
    )
    assert found[0].text == processor.tokenizer.decode(expected, skip_special_tokens=True)
    assert found[0].text != found[1].text


def test_other_pixels_are_another_answer(seer: LanguageModel) -> None:
    found = answers(seer, work(shown(png_url("red"))), work(shown(png_url("stripes"))), work(shown(png_url("red"))))
    red, stripes, red_again = (answer.text for answer in found)
    assert red != stripes
    assert red == red_again


def test_rows_with_and_without_images_stand_in_one_batch(seer: LanguageModel) -> None:
    conversations = [
        shown(png_url("red")),
        [{"role": "user", "content": "no image"}],
        shown(png_url("stripes"), png_url("blue"), text="and two, with more to read"),
        shown(text="parts, but of text"),
        shown(png_url("green"), text=""),
    ]
    lengths = [5, 30, 9, 17, 24]
    alone = [answers(seer, work(each, n))[0] for each, n in zip(conversations, lengths, strict=True)]
    assert answers(seer, *map(work, conversations, lengths)) == alone
    assert len({answer.text for answer in alone}) == len(conversations)


def test_tokens_of_images_count(seer: LanguageModel) -> None:
    without, one, two = answers(seer, *(work(shown(*[png_url("red")] * count)) for count in range(3)))
    assert one.num_prompt_tokens - without.num_prompt_tokens == NUM_TOKENS_OF_IMAGE
    assert two.num_prompt_tokens - one.num_prompt_tokens == NUM_TOKENS_OF_IMAGE
    (full,) = answers(seer, work(shown(png_url("red"), text="x" * 500), max_tokens=50))
    assert full.num_prompt_tokens + full.num_generated_tokens == seer.context
    over = work(shown(png_url("red"), text="x" * 505))
    seer.generate([over], lambda _limit: [], max_rows=4)
    with pytest.raises(InvalidRequestError, match=r"has 512 tokens, and the context of seer holds 512"):
        over.answer.result(timeout=0)


def test_it_completes_texts_too(seer: LanguageModel) -> None:
    request = Work(CompletionRequest(MODEL, "abc", Sampling(max_tokens=5)), ModelFiles(Path("/nowhere"), {}, None))
    assert answers(seer, request)[0].num_generated_tokens == 5


def test_a_text_model_is_shown_none(tiny_llama: Path) -> None:
    weights = Weights(tiny_llama, "cpu", torch.float32)
    model = LanguageModel("tiny", weights, weights.variant(None))
    refused = work(shown(png_url("red")))
    model.generate([refused], lambda _limit: [], max_rows=4)
    with pytest.raises(InvalidRequestError, match="tiny reads text only"):
        refused.answer.result(timeout=0)


def test_a_text_that_claims_an_image_is_refused(seer: LanguageModel) -> None:
    refused = work(shown(png_url("red"), text="<|image|>"))
    seer.generate([refused], lambda _limit: [], max_rows=4)
    with pytest.raises(InvalidRequestError, match="seer does not take these images"):
        refused.answer.result(timeout=0)


def test_low_detail_is_a_smaller_picture() -> None:
    url = png_url("stripes", width=1024, height=256)
    assert images.read(url).size == images.read(url, "high").size == (1024, 256)
    assert images.read(url, "low").size == (512, 128)


def test_images_are_taken_out_of_turns_and_leave_their_places() -> None:
    """A dataset's row may carry keys beside `url` and `detail`: nobody knows what they mean."""
    image = {"url": png_url("red", width=600), "detail": "low", "width": 600}
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": image}]},
    ]
    taken = images.take_out(turns)
    assert taken.turns == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}]},
    ]
    assert [picture.width for picture in taken.images] == [512]


def test_any_picture_comes_as_rgb() -> None:
    for mode in ("L", "RGBA", "P", "1"):
        file = io.BytesIO()
        Image.new(mode, (3, 2)).save(file, "PNG")
        image = images.read(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
        assert (image.mode, image.size) == ("RGB", (3, 2))


def _encoded(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_what_is_no_image_is_refused_by_place() -> None:
    large, larger = io.BytesIO(), io.BytesIO()
    Image.new("1", (8000, 8000)).save(large, "PNG")
    Image.new("1", (16000, 16000)).save(larger, "PNG")
    bitmap = io.BytesIO()
    Image.new("RGB", (2, 2)).save(bitmap, "BMP")
    for url, reason in (
        ("https://images.example.org/one.png", "base64 data only"),
        ("data:image/png,plain", "base64 data only"),
        ("data:image/png;base64,@@@", "not valid base64"),
        (_encoded(b"no image"), "cannot be read as PNG"),
        (_encoded(base64.b64decode(png_url("stripes").partition(",")[2])[:60]), "cannot be read as PNG"),
        (_encoded(bitmap.getvalue()), "cannot be read as PNG"),
        (_encoded(larger.getvalue()), "over 33554432 pixels"),
        (_encoded(large.getvalue()), "over 33554432 pixels"),
    ):
        with pytest.raises(InvalidRequestError, match=f"Part 1 of message 0: .*{reason}"):
            images.take_out(shown(png_url("red"), url))

"""Images in a conversation: from `data:` URLs to pixels, and the turns as the templates of models that see take them.

What becomes of the pixels is the business of each model's own processor.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any, NamedTuple

from PIL import Image

from paddock.errors import InvalidRequestError

_MAX_PIXELS = 2**25
"""Decoded, an image of so many takes 100 MB; a small file may claim to be far larger."""

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")

_LOW_DETAIL_PIXELS = 512
"""The longer side that `detail: low` leaves of an image at most, as in OpenAI's API."""


class Illustrated(NamedTuple):
    """Turns, with a list of parts as the content of each, and the images that stand at their parts of type `image`."""

    turns: list[dict[str, Any]]
    images: list[Image.Image]


def take_out(messages: list[dict[str, Any]]) -> Illustrated:
    """Part turns and their images. Raises `InvalidRequestError` naming an image that cannot be read."""
    turns, images = [], []
    for index, message in enumerate(messages):
        content = message["content"] or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        shown = []
        for part_index, part in enumerate(parts):
            if part["type"] == "image_url":
                image = part["image_url"]
                try:
                    images.append(read(image["url"], image.get("detail")))
                except InvalidRequestError as error:
                    raise InvalidRequestError(f"Part {part_index} of message {index}: {error.detail}") from None
                shown.append({"type": "image"})
            else:
                shown.append(part)
        turns.append(message | {"content": shown})
    return Illustrated(turns, images)


def read(url: str, detail: str | None = None) -> Image.Image:
    """The first picture of the image in a `data:` URL, as RGB. Raises `InvalidRequestError`."""
    head, _, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise InvalidRequestError("A local model is shown images as base64 data only: `data:image/png;base64,…`.")
    try:
        file = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=_FORMATS)
        if file.width * file.height > _MAX_PIXELS:
            raise Image.DecompressionBombError
        image = file.convert("RGB")
    except binascii.Error:
        raise InvalidRequestError("The image is not valid base64.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequestError(f"The image has over {_MAX_PIXELS} pixels, the most that are read.") from None
    except (OSError, ValueError, SyntaxError):
        raise InvalidRequestError("The image cannot be read as PNG, JPEG, GIF or WebP.") from None
    if detail == "low":
        image.thumbnail((_LOW_DETAIL_PIXELS, _LOW_DETAIL_PIXELS))
    return image

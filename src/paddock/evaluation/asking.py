"""In which manner a model is asked about a benchmark's rows, and what the benchmark says of its answers' length and end.

A benchmark whose functions score by log-likelihood has its choices compared. One that names `asking` in its metadata,
`{"asking": {"manner": "completion", "max_tokens": 64, "stop": ["\\n"]}}`, may have the model continue a text where others
converse, and says how an answer ends where the request does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from paddock.errors import InvalidRequestError

KEY = "asking"
"""Where a benchmark's metadata have it."""

_POINTER = f"/metadata/{KEY}"
_KEYS = {"manner", "max_tokens", "stop"}


class Manner(StrEnum):
    """How a row is put to a model: as a conversation through its chat template, as a text that it continues, or as a text
    after which each choice has its likelihood."""

    CHAT = "chat"
    COMPLETION = "completion"
    LOG_LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True)
class Asking:
    """What a benchmark says of it; None leaves a knob to the request, and then to the model."""

    manner: Manner = Manner.CHAT
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None


def named_in(metadata: Mapping[str, Any]) -> Asking:
    """What a benchmark's metadata say. Raises `InvalidRequestError`."""
    found = metadata.get(KEY)
    if found is None:
        return Asking()
    if not isinstance(found, dict) or found.keys() - _KEYS:
        raise InvalidRequestError(
            f'`{KEY}` is {{"manner": "completion", "max_tokens": 64, "stop": ["…"]}}, each of which may be absent.',
            pointer=_POINTER,
        )
    manner = found.get("manner", Manner.CHAT)
    if manner not in (Manner.CHAT, Manner.COMPLETION):
        raise InvalidRequestError(
            "`manner` is `chat` or `completion`. Choices are compared by functions named `loglikelihood::…`.",
            pointer=f"{_POINTER}/manner",
        )
    max_tokens = found.get("max_tokens")
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1):
        raise InvalidRequestError("`max_tokens` must be a whole number over 0.", pointer=f"{_POINTER}/max_tokens")
    stop = found.get("stop")
    if stop is not None and not (isinstance(stop, list) and all(isinstance(text, str) and text for text in stop)):
        raise InvalidRequestError("`stop` is a list of texts, none of them empty.", pointer=f"{_POINTER}/stop")
    return Asking(Manner(manner), max_tokens, None if stop is None else tuple(stop))

"""What a benchmark says of how its rows are put to a model."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.errors import InvalidRequestError
from paddock.evaluation import asking
from paddock.evaluation.asking import Asking, Manner


def test_what_metadata_say() -> None:
    assert asking.named_in({"topic": "x"}) == Asking(Manner.CHAT, None, None)
    said = {"manner": "completion", "max_tokens": 12, "stop": ["\n\n", "Q:"]}
    assert asking.named_in({"asking": said}) == Asking(Manner.COMPLETION, 12, ("\n\n", "Q:"))
    assert asking.named_in({"asking": {"stop": []}}) == Asking(Manner.CHAT, None, ())


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ("completion", ""),
        ({"mode": "chat"}, ""),
        ({"manner": "log_likelihood"}, "/manner"),
        ({"manner": []}, "/manner"),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"max_tokens": True}, "/max_tokens"),
        ({"stop": "\n"}, "/stop"),
        ({"stop": ["x", ""]}, "/stop"),
    ],
)
def test_metadata_that_cannot_be_right(said: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        asking.named_in({"asking": said})
    assert caught.value.errors[0].pointer == f"/metadata/asking{pointer}"

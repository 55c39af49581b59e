"""The fields of rerank."""

from __future__ import annotations

from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field

PATH = "/v1alpha/inference/rerank"


def _ranked(body: dict[str, Any]) -> Any:
    """The other side finds later documents better."""
    return {"results": [{"index": i, "relevance_score": float(i)} for i in range(len(body["documents"]))]}


@field("rerank max_num_results integer")
def max_num_results(lab: Lab) -> None:
    lab.answer = _ranked
    body = {"model": "ranker", "query": "q", "items": ["a", "b", "c"]}
    for count in (1, 2):
        ranked = lab.call("POST", PATH, body | {"max_num_results": count})["data"]
        assert [item["index"] for item in ranked] == [2, 1][:count]

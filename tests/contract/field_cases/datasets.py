"""The fields of datasets: which one, and which of its rows."""

from __future__ import annotations

from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.registry import field

DATASETS = "/v1beta/datasets"
ITERROWS = "/v1beta/datasetio/iterrows"
APPEND_ROWS = "/v1beta/datasetio/append-rows"


def _numbers(lab: Lab, dataset_id: str, **parameters: Any) -> list[int]:
    """The numbers of the rows that a page holds."""
    return [row["n"] for row in lab.call("GET", f"{ITERROWS}/{dataset_id}", **parameters)["data"]]


def _add(lab: Lab, *numbers: int) -> str:
    return lab.add_dataset([{"question": "?", "answer": "!", "n": number} for number in numbers])


@field("append_rows dataset_id (path) string")
def append_rows_dataset(lab: Lab) -> None:
    first, second = _add(lab, 1), _add(lab, 2)
    lab.call("POST", f"{APPEND_ROWS}/{first}", {"rows": [{"n": 3}]})
    assert (_numbers(lab, first), _numbers(lab, second)) == ([1, 3], [2])
    lab.call("POST", f"{APPEND_ROWS}/{second}", {"rows": [{"n": 3}]})
    assert (_numbers(lab, first), _numbers(lab, second)) == ([1, 3], [2, 3])


@field("append_rows rows[] object")
def append_rows(lab: Lab) -> None:
    for rows in ([{"n": 7}], [{"n": 8}, {"n": 9}]):
        dataset_id = _add(lab)
        lab.call("POST", f"{APPEND_ROWS}/{dataset_id}", {"rows": rows})
        assert lab.call("GET", f"{ITERROWS}/{dataset_id}")["data"] == rows


@field("iterrows dataset_id (path) string")
def iterrows_dataset(lab: Lab) -> None:
    first, second = _add(lab, 1, 2), _add(lab, 3)
    assert (_numbers(lab, first), _numbers(lab, second)) == ([1, 2], [3])


@field("iterrows limit (query) ")
def iterrows_limit(lab: Lab) -> None:
    dataset_id = _add(lab, 1, 2, 3)
    assert [_numbers(lab, dataset_id, limit=limit) for limit in (0, 1, 2, -1)] == [[], [1], [1, 2], [1, 2, 3]]


@field("iterrows start_index (query) ")
def iterrows_start_index(lab: Lab) -> None:
    dataset_id = _add(lab, 1, 2, 3)
    assert [_numbers(lab, dataset_id, start_index=start) for start in (0, 1, 2)] == [[1, 2, 3], [2, 3], [3]]


@field("get_dataset dataset_id (path) string")
def get_dataset(lab: Lab) -> None:
    for numbers in ([4], [5, 6]):
        dataset_id = _add(lab, *numbers)
        shown = lab.call("GET", f"{DATASETS}/{dataset_id}")
        assert shown["identifier"] == dataset_id
        assert [row["n"] for row in shown["source"]["rows"]] == numbers

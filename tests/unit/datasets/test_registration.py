from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from paddock.datasets import bodies
from paddock.datasets.registration import register, register_entry
from paddock.datasets.sources import Access
from paddock.datasets.store import DatasetStore
from paddock.errors import ConflictError, InvalidRequestError

ENTRY: dict[str, Any] = {
    "dataset_id": "exam",
    "purpose": "eval/question-answer",
    "source": {"type": "rows", "rows": [{"question": "é", "answer": 1.5}]},
    "metadata": {"since": date(2024, 1, 31)},
}


def test_an_entry_is_registered_once(datasets: DatasetStore) -> None:
    first = register_entry(datasets, Access(), ENTRY)
    assert list(datasets.read(datasets.version(first))) == ENTRY["source"]["rows"]
    assert first.metadata == {"since": "2024-01-31"}
    assert register_entry(datasets, Access(), ENTRY) == first


def test_a_changed_entry_is_a_conflict_unless_it_is_to_replace(datasets: DatasetStore) -> None:
    first = register_entry(datasets, Access(), ENTRY)
    changed = ENTRY | {"metadata": {}}
    with pytest.raises(ConflictError, match="'exam'"):
        register_entry(datasets, Access(), changed)
    assert datasets.get("exam") == first
    assert register_entry(datasets, Access(), changed, replace=True).metadata == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_id": None}, "needs its `dataset_id`"),
        ({"metadata": {"x": float("nan")}}, "cannot be written as JSON"),
        ({"metadata": {"x": "\ud800"}}, "cannot be written as JSON"),
        ({"purpose": "exam"}, "/purpose"),
    ],
)
def test_a_wrong_entry_is_refused(datasets: DatasetStore, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        register_entry(datasets, Access(), ENTRY | change)
    assert datasets.list() == []


def test_an_entry_may_name_a_file_which_is_read_once(datasets: DatasetStore, root: Path) -> None:
    file = root / "exam.jsonl"
    file.write_text('{"question":"q","answer":1.10}\n')
    entry = ENTRY | {"source": {"type": "uri", "uri": file.as_uri()}}
    first = register_entry(datasets, Access((root,)), entry)
    assert datasets.page(first, 0, 10) == ['{"question":"q","answer":1.10}']
    assert (first.source_type, first.uri) == ("uri", file.as_uri())
    file.unlink()
    assert register_entry(datasets, Access((root,)), entry) == first


def test_a_long_data_uri_is_not_kept_whole(datasets: DatasetStore) -> None:
    uri = "data:text/csv,a%0A" + "x" * 100_000
    body = f'{{"purpose":"eval/question-answer","dataset_id":"d","source":{{"uri":"{uri}"}}}}'.encode()
    dataset = register(datasets, (), bodies.parse_registration(body))
    assert datasets.page(dataset, 0, 1) == ['{"a":"' + "x" * 100_000 + '"}']
    assert dataset.uri == uri[:65536] + "…"
    assert register(datasets, (), bodies.parse_registration(body)) == dataset
    with pytest.raises(ConflictError):
        register(datasets, (), bodies.parse_registration(body.replace(b'x"', b'y"')))

from __future__ import annotations

import json

import msgspec
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from paddock.datasets import profile_store
from paddock.datasets.profile import Profile, digest, prompt
from paddock.datasets.store import DatasetStore
from paddock.storage.database import Database
from paddock.storage.tables import row_digests
from row_texts import ROWS

QA = "eval/question-answer"


def _profile(*chunks: list[str]) -> Profile:
    profile = Profile(fields={}, incomplete_rows=[])
    for chunk in chunks:
        profile.add(QA, chunk)
        profile = msgspec.json.decode(msgspec.json.encode(profile), type=Profile)  # as the store keeps it
    return profile


def test_fields_are_counted_by_type_and_length() -> None:
    texts = [
        '{"question":"four","answer":1,"x":null}',
        '{"question":["a",{"content":"bcd"}],"answer":1.5}',
        '{"question":"ab","answer":true,"x":null}',
        '{"answer":{"k":"value"}}',
    ]
    shown = _profile(texts).shown()
    assert (shown["as_of_row"], shown["num_incomplete_rows"]) == (4, 1)
    assert shown["incomplete_rows"] == [{"row": 3, "lacks": "question"}]
    assert shown["fields"]["question"] == {
        "types": {"array": 1, "string": 2},
        "num_null": 0,
        "num_absent": 1,
        "num_distinct": 3,
        "num_distinct_is_exact": True,
        "characters": {"min": 2, "mean": 10 / 3, "max": 4},
    }
    assert shown["fields"]["answer"]["types"] == {"boolean": 1, "integer": 1, "number": 1, "object": 1}
    assert shown["fields"]["x"] == {
        "types": {"null": 2},
        "num_null": 2,
        "num_absent": 2,
        "num_distinct": 0,
        "num_distinct_is_exact": True,
        "characters": {"min": None, "mean": None, "max": None},
    }


@given(st.lists(ROWS, max_size=12), st.integers(0, 12))
def test_what_was_followed_is_what_a_full_scan_finds(texts: list[str], cut: int) -> None:
    assert _profile(texts[:cut], texts[cut:]) == _profile(texts)


def test_many_distinct_values_are_estimated() -> None:
    shown = _profile([f'{{"n":{n},"few":{n % 300}}}' for n in range(20_000)]).shown()["fields"]
    assert shown["n"]["num_distinct_is_exact"] is False
    assert abs(shown["n"]["num_distinct"] - 20_000) < 3_000
    assert (shown["few"]["num_distinct"], shown["few"]["num_distinct_is_exact"]) == (300, True)


@pytest.mark.parametrize(
    "row",
    [
        {"question": " What  is\n1 + 1?"},
        {"input_query": "what is 1 + 1?", "expected_answer": "2"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "What is 1 + 1?"}]},
        {"messages": json.dumps([{"role": "user", "content": [{"type": "text", "text": "What is 1 + 1?"}]}])},
        {"chat_completion_input": '[{"role":"user","content":"WHAT IS 1 + 1?"},{"role":"assistant","content":"2"}]'},
    ],
)
def test_the_same_question_in_other_clothes(row: dict[str, object]) -> None:
    assert prompt(row) == "what is 1 + 1?"


def test_a_row_that_asks_nothing() -> None:
    assert prompt({"answer": "2"}) == ""
    assert prompt({"question": 3}) == ""


def _register(client: TestClient, dataset_id: str, rows: list[dict[str, object]]) -> None:
    body = {"dataset_id": dataset_id, "purpose": QA, "source": {"type": "rows", "rows": rows}}
    assert client.post("/v1beta/datasets", json=body).status_code == 200


def test_equal_rows_and_overlaps_are_found_and_follow_appends(client: TestClient) -> None:
    _register(client, "exam", [{"question": f"Q{n}", "answer": n} for n in range(50)])
    _register(client, "train", [{"question": "q7 ", "answer": 1}, {"question": "new", "answer": 1, "b": 2**70}])
    found = client.get("/v1beta/dataset-profiles/train", params={"overlap_with": "exam"}).json()
    assert found["duplicates"] == {"num_rows": 0, "rows": []}
    assert found["overlap"] == {"dataset_id": "exam", "num_rows": 1, "rows": [{"row": 0, "other_row": 7}]}
    more = [{"b": 2**70, "answer": 1, "question": "new"}, {"question": "Q49"}, {"question": "q7 ", "answer": 1}]
    assert client.post("/v1beta/datasetio/append-rows/train", json={"rows": more}).status_code == 200
    found = client.get("/v1beta/dataset-profiles/train", params={"overlap_with": "exam"}).json()
    assert (found["as_of_row"], found["num_rows"]) == (5, 5)
    assert found["duplicates"] == {"num_rows": 2, "rows": [{"row": 2, "equals": 1}, {"row": 4, "equals": 0}]}
    assert found["overlap"]["rows"] == [
        {"row": 0, "other_row": 7},
        {"row": 3, "other_row": 49},
        {"row": 4, "other_row": 7},
    ]
    assert found["incomplete_rows"] == [{"row": 3, "lacks": "answer"}]
    assert client.get("/v1beta/dataset-profiles/train").json()["overlap"] is None
    unknown = client.get("/v1beta/dataset-profiles/train", params={"overlap_with": "nothing"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (400, "overlap_with")
    assert client.get("/v1beta/dataset-profiles/nothing").status_code == 404


def test_a_long_dataset_is_followed_step_by_step_and_swept(
    datasets: DatasetStore, database: Database, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.datasets.routes._PROFILE_SECONDS", 0)
    monkeypatch.setattr(profile_store, "_SWEEP_ROWS", 700)
    _register(client, "d", [{"question": f"{n % 2000}", "answer": n} for n in range(2500)])
    steps = [client.get("/v1beta/dataset-profiles/d").json() for _ in range(4)]
    assert [step["as_of_row"] for step in steps] == [1000, 2000, 2500, 2500]
    assert steps[1]["duplicates"] is None
    assert steps[2] == steps[3]
    assert steps[2]["duplicates"] == {"num_rows": 0, "rows": []}
    version = datasets.version(datasets.get("d"))
    full = Profile(fields={}, incomplete_rows=[])
    full.add(QA, datasets.page(datasets.get("d"), 0, 2500))
    assert datasets.profiles.follow(version, QA, seconds=1) == full
    datasets.remove("d")
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(row_digests)).scalar_one() == 0


def test_digests_fit_a_databases_integer() -> None:
    assert all(0 <= digest(str(n).encode()) < 2**63 for n in range(1000))

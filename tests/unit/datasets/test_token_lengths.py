from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from paddock.datasets.profile import characters
from paddock.datasets.store import DatasetStore
from paddock.datasets.token_lengths import TokenLengths
from paddock.errors import InvalidRequestError
from tiny_models import save_byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One token a byte."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_byte_tokenizer(folder)
    return folder / "tokenizer.json"


_VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text("abc ", max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("xyz", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), _VALUES), max_size=6), cut=st.integers(0, 6))
def test_bytes_as_tokens_are_the_characters(tokenizer_file: Path, rows: list[dict[str, object]], cut: int) -> None:
    lengths = TokenLengths(tokenizer_file)
    texts = [json.dumps(row) for row in rows]
    lengths.add(texts[:cut])
    lengths.add(texts[cut:])
    shown = lengths.shown()
    assert shown["as_of_row"] == len(rows)
    for name in "abc":
        expected = [characters(row[name]) for row in rows if row.get(name) is not None]
        if expected:
            mean = sum(expected) / len(expected)
            assert shown["fields"][name] == {"min": min(expected), "mean": mean, "max": max(expected)}
        else:
            assert name not in shown["fields"]


def test_several_bytes_are_several_tokens(tokenizer_file: Path) -> None:
    lengths = TokenLengths(tokenizer_file)
    lengths.add(['{"a":"é<|end|>"}'])
    assert lengths.shown()["fields"]["a"]["max"] == 3  # two bytes, and the special token that stands in the text


class _Models:
    """The part of `Inference` that the route asks."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def tokenizer_file(self, model_id: str) -> Path:
        assert model_id == "my/model"
        return self._file


def test_the_route_follows_a_dataset(
    client: TestClient, app: FastAPI, datasets: DatasetStore, tokenizer_file: Path
) -> None:
    app.state.inference = _Models(tokenizer_file)
    source = {"type": "rows", "rows": [{"question": "four", "answer": "ab"}]}
    body = {"dataset_id": "d", "purpose": "eval/question-answer", "source": source}
    assert client.post("/v1beta/datasets", json=body).status_code == 200
    path = "/v1beta/dataset-profiles/d"
    assert client.get(path).json()["tokens"] is None
    tokens = client.get(path, params={"tokenizer": "my/model"}).json()["tokens"]
    lengths = {"min": 4, "mean": 4.0, "max": 4}
    assert tokens == {
        "tokenizer": "my/model",
        "as_of_row": 1,
        "fields": {"question": lengths, "answer": {"min": 2, "mean": 2.0, "max": 2}},
    }
    client.post("/v1beta/datasetio/append-rows/d", json={"rows": [{"question": "sixsix"}]})
    tokens = client.get(path, params={"tokenizer": "my/model"}).json()["tokens"]
    assert (tokens["as_of_row"], tokens["fields"]["question"]) == (2, {"min": 4, "mean": 5.0, "max": 6})


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidRequestError, match=r"tokenizer\.json cannot be read"):
        TokenLengths(tmp_path / "tokenizer.json")

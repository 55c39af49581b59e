"""Attention row by row: the same numbers as each row alone, and only in models that it is known to be right for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from paddock.post_training import attention

LENGTHS = (5, 1, 9, 4)
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def _states(num_heads: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(1, sum(LENGTHS), num_heads, 8, dtype=dtype).transpose(1, 2).requires_grad_()


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_each_row_attends_to_itself_as_if_it_were_alone(
    dtype: torch.dtype, tolerance: float, window: int | None
) -> None:
    """Values and gradients, with four heads of queries that share two of keys, against one mask in float64."""
    torch.manual_seed(0)
    query, key, value = (_states(heads, dtype) for heads in (4, 2, 2))
    bounds = attention.arguments(LENGTHS)["cu_seq_lens_q"]
    found, _ = attention.row_by_row(
        None, query, key, value, None, scaling=0.4, cu_seq_lens_q=bounds, sliding_window=window
    )
    rows_T = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    behind_TT = torch.arange(len(rows_T))[:, None] - torch.arange(len(rows_T))
    sees_TT = (rows_T[:, None] == rows_T) & (behind_TT >= 0) & (behind_TT < (window or len(rows_T)))
    exact = [states.detach().double().requires_grad_() for states in (query, key, value)]
    expected = scaled_dot_product_attention(*exact, attn_mask=sees_TT, scale=0.4, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    slopes = torch.randn(expected.shape, dtype=torch.float64)
    found.backward(slopes.to(dtype))
    expected.backward(slopes)
    for states, right in zip((query, key, value), exact, strict=True):
        torch.testing.assert_close(states.grad.double(), right.grad, rtol=0, atol=10 * tolerance)


def test_dropout_is_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    states = [_states(2, torch.bfloat16) for _ in range(3)]
    bounds = attention.arguments(LENGTHS)["cu_seq_lens_q"]
    kept, _ = attention.row_by_row(None, *states, None, scaling=0.4, cu_seq_lens_q=bounds, dropout=0.0)
    dropped, _ = attention.row_by_row(None, *states, None, scaling=0.4, cu_seq_lens_q=bounds, dropout=0.5)
    # A row of one token has one weight, 1: it is dropped or doubled.
    (alone,) = (dropped[:, 5:6] / kept[:, 5:6]).unique().split(2)
    assert set(alone.tolist()) <= {0.0, 2.0}
    assert not torch.equal(kept, dropped)


def test_a_window_of_the_models_own_is_kept() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(sliding_window=3, **SHAPE)).eval()
    ids = torch.randint(2, 64, (1, 12))
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        assert attention.use(model)
        found = model(input_ids=ids, use_cache=False, **attention.arguments([12])).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def _without_backend(tiny_llama: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model._supports_attention_backend = False
    return model


def _of_chunks(tiny_llama: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.config.layer_types = ["full_attention", "chunked_attention"]
    return model


def _that_caps_its_scores(_tiny_llama: Path) -> Any:
    return Gemma2ForCausalLM(Gemma2Config(attn_logit_softcapping=50.0, **SHAPE)).eval()


def _that_knows_of_its_neighbours(tiny_llama: Path) -> Any:
    """A layer that looks one place back whatever row that is, as a convolution does."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.layers[0].mlp.register_forward_hook(lambda _mlp, _inputs, out: out + 1e-3 * out.roll(1, dims=1))
    return model


@pytest.mark.parametrize(
    "make",
    [_without_backend, _of_chunks, _that_caps_its_scores, _that_knows_of_its_neighbours],
    ids=lambda f: f.__name__,
)
def test_models_that_attend_in_a_way_of_their_own_are_left_as_they_are(tiny_llama: Path, make: Any) -> None:
    model = make(tiny_llama)
    before = model.config._attn_implementation
    assert not attention.use(model)
    assert model.config._attn_implementation == before


def test_a_checkpoint_says_nothing_of_it(tiny_llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert attention.use(model)
    model.save_pretrained(tmp_path)
    assert "row_by_row" not in (tmp_path / "config.json").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path)

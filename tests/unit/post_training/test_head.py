"""The output layer and the loss in one: the numbers of the plain computation, which has all logits at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from paddock.post_training import head

NUM_TOKENS, NUM_WORDS, HIDDEN = 150, 300, 16


def _given(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden_NH = torch.randn(NUM_TOKENS, HIDDEN).to(dtype).requires_grad_()
    weight_VH = torch.randn(NUM_WORDS, HIDDEN).requires_grad_()
    return hidden_NH, weight_VH, torch.randint(NUM_WORDS, (NUM_TOKENS,))


@pytest.mark.parametrize("at_once", [64, 1024])
@pytest.mark.parametrize("weighs_alike", [True, False])
def test_values_and_gradients_are_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, weighs_alike: bool, at_once: int
) -> None:
    """In float32 within 1e-6, whether all tokens weigh the same or each its own, in one go or in several."""
    monkeypatch.setattr(head, "_TOKENS_AT_ONCE", at_once)
    hidden_NH, weight_VH, targets_N = _given()
    weighs_N = torch.full((NUM_TOKENS,), 1 / NUM_TOKENS) if weighs_alike else torch.rand(NUM_TOKENS) / NUM_TOKENS
    expected_N = -cross_entropy(hidden_NH @ weight_VH.t(), targets_N, reduction="none")
    expected = torch.autograd.grad((expected_N * weighs_N).sum(), (hidden_NH, weight_VH))
    found_N = head.log_probs(hidden_NH, weight_VH, targets_N)
    found = torch.autograd.grad((found_N * weighs_N).sum(), (hidden_NH, weight_VH))
    torch.testing.assert_close(found_N, expected_N, rtol=1e-6, atol=1e-6)
    for mine, right in zip(found, expected, strict=True):
        assert (mine - right).norm() < 1e-6 * right.norm()


def test_a_frozen_layer_gets_no_gradient() -> None:
    hidden_NH, weight_VH, targets_N = _given()
    weighs_N = torch.rand(NUM_TOKENS)
    expected_N = -cross_entropy(hidden_NH @ weight_VH.t(), targets_N, reduction="none")
    (expected,) = torch.autograd.grad((expected_N * weighs_N).sum(), hidden_NH)
    found_N = head.log_probs(hidden_NH, weight_VH.detach(), targets_N)
    (found,) = torch.autograd.grad((found_N * weighs_N).sum(), hidden_NH)
    assert (found - expected).norm() < 1e-6 * expected.norm()


def test_products_are_in_bfloat16_and_losses_in_float32() -> None:
    hidden_NH, weight_VH, targets_N = _given(torch.bfloat16)
    found_N = head.log_probs(hidden_NH, weight_VH, targets_N)
    expected_N = -cross_entropy((hidden_NH @ weight_VH.bfloat16().t()).float(), targets_N, reduction="none")
    assert found_N.dtype is torch.float32
    torch.testing.assert_close(found_N, expected_N, rtol=0, atol=1e-5)
    found_N.sum().backward()
    assert (hidden_NH.grad.dtype, weight_VH.grad.dtype) == (torch.bfloat16, torch.float32)


def test_logits_that_are_no_plain_product_are_noticed(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert head.is_last(model)
    assert head.is_product(model.get_output_embeddings())
    assert not head.is_product(nn.Linear(4, 4, bias=True))
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    capped = Gemma2Config(vocab_size=32, num_key_value_heads=1, head_dim=8, final_logit_softcapping=30.0, **shape)
    assert not head.is_last(Gemma2ForCausalLM(capped).eval())

"""What is fused with oneDNN's linear layers, and that it computes what it did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.activations import GELUActivation

from paddock.inference.local_models import onednn
from paddock.inference.local_models.fused import fuse

pytestmark = pytest.mark.skipif(not onednn.is_available(), reason="this build of torch has no kernels of oneDNN")

X_1TI = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(0))


class _Two(nn.Module):  # type: ignore[misc]  # torch is not followed
    def __init__(self, activation: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = (onednn.Linear(nn.Linear(*sizes), dtype) for sizes in ((8, 64), (64, 8)))
        self.activation = activation

    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x_1TI)))  # type: ignore[no-any-return]  # torch is not followed


class _LooksTwice(_Two):
    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x_1TI)) + 1)  # type: ignore[no-any-return]  # torch is not followed


class _RunsTwice(_Two):
    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(x_1TI))


@pytest.mark.parametrize("activation", [GELUActivation, nn.GELU, lambda: nn.GELU("tanh")])
def test_an_activation_is_computed_with_the_product_before_it(activation: Callable[[], nn.Module]) -> None:
    layers = _Two(activation(), torch.float32)
    with torch.inference_mode():
        expected = layers(X_1TI)
        fuse(layers, lambda: layers(X_1TI))
        assert isinstance(layers.activation, nn.Identity)
        assert torch.allclose(layers(X_1TI), expected, atol=1e-6)


def test_what_is_no_gelu_between_two_products_or_runs_in_two_places_stays() -> None:
    for layers in (
        _Two(nn.SiLU(), torch.float32),
        _Two(GELUActivation(use_gelu_python=True), torch.float32),
        _LooksTwice(nn.GELU(), torch.float32),
        _RunsTwice(nn.GELU(), torch.float32),
    ):
        before = layers.activation
        with torch.inference_mode():
            expected = layers(X_1TI)
            fuse(layers, lambda layers=layers: layers(X_1TI))  # type: ignore[misc]  # the loop's own
            assert layers.activation is before
            assert torch.equal(layers(X_1TI), expected)


@pytest.mark.skipif(not onednn.has_bf16(), reason="this CPU does not compute in bf16, and such models are refused here")
def test_in_bf16_nothing_is_widened_between_two_products() -> None:
    layers = _Two(nn.GELU(), torch.bfloat16)
    with torch.inference_mode():
        expected = layers(X_1TI)
        fuse(layers, lambda: layers(X_1TI))
        assert layers.up(X_1TI).dtype == torch.bfloat16
        found = layers(X_1TI)
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, atol=0.02)

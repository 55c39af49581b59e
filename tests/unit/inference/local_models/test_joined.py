"""Linear layers of one input: which are joined, and that they compute what they did."""

from __future__ import annotations

import torch
from torch import nn

from paddock.inference.local_models.joined import Part, join

X_1TI = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))


class _Three(nn.Module):  # type: ignore[misc]  # torch is not followed
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 4, bias=False), nn.Linear(8, 12)

    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.a(x_1TI), self.b(x_1TI), self.c(x_1TI + 1)], dim=-1)


class _Twice(_Three):
    def forward(self, x_1TI: torch.Tensor) -> torch.Tensor:
        return super().forward(self.a(x_1TI))


def test_what_reads_the_same_input_is_joined() -> None:
    layers = _Three()
    a, b = layers.a, layers.b
    with torch.inference_mode():
        expected = layers(X_1TI)
        assert join(layers, lambda: layers(X_1TI)) == {"a": a, "b": b}
        assert isinstance(layers.b, Part)
        assert isinstance(layers.c, nn.Linear)
        assert torch.allclose(layers(X_1TI), expected, atol=1e-6)


def test_what_runs_in_two_places_is_not() -> None:
    layers = _Twice()
    with torch.inference_mode():
        assert join(layers, lambda: layers(X_1TI)) == {}

"""The last layer in small: which of its linear layers are narrow, and what they compute."""

from __future__ import annotations

import torch
from torch import nn

from paddock.inference.local_models import last_layer, segments


class _Layer(nn.Module):  # type: ignore[misc]  # torch is not followed
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x_1TD: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        heads_1HTD = self.before(x_1TD).unsqueeze(1)
        found_1THD, _ = segments._exact(self, heads_1HTD, heads_1HTD, heads_1HTD, None, cu_seq_lens_q=ends)
        return x_1TD + self.after(found_1THD.squeeze(2))


class _Layers(nn.Module):  # type: ignore[misc]  # torch is not followed
    def __init__(self, *layers: _Layer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_1TD: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x_1TD = layer(x_1TD, ends)
        return x_1TD


ENDS = torch.tensor([0, 3, 4, 9])
X_1TD = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))


def narrowed(layers: _Layers) -> list[nn.Module]:
    first_rows = last_layer.FirstRows()
    first_rows.begin_at(ENDS[:-1])
    last_layer.narrow(layers, lambda: layers(X_1TD, ENDS), first_rows)
    return [module for module in layers.modules() if isinstance(module, last_layer.Narrow)]


def test_first_tokens_stay_as_they_were_and_the_others_are_not_computed() -> None:
    layers = _Layers(_Layer(), _Layer())
    with torch.inference_mode():
        before_1TD = layers(X_1TD, ENDS)
        assert narrowed(layers) == [layers.layers[1].after]
        after_1TD = layers(X_1TD, ENDS)
    assert torch.allclose(after_1TD[0, ENDS[:-1]], before_1TD[0, ENDS[:-1]], atol=1e-6)
    assert not torch.allclose(after_1TD[0, 1], before_1TD[0, 1], atol=1e-2)


def test_a_layer_that_stands_in_two_places_stays_whole() -> None:
    shared = _Layer()
    layers = _Layers(shared, shared)
    with torch.inference_mode():
        before_1TD = layers(X_1TD, ENDS)
        assert narrowed(layers) == []
        assert torch.equal(layers(X_1TD, ENDS), before_1TD)

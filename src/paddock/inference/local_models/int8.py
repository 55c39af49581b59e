"""Linear layers in int8, by oneDNN's kernels: a quarter of the weights' memory, and products of whole numbers.

Weights are rounded once, each output's by a scale of its own; inputs are rounded on the way, each row's by its own, which
is token by token (Yao et al. 2022, https://arxiv.org/abs/2206.01861). A row's scale depends on no other row, and sums of
whole numbers on no order, so a row is the same to the bit whatever stands beside it.

Shapes: T rows, I numbers of an input, O of an output.
"""

from __future__ import annotations

import functools

import torch
from torch import nn

from paddock.inference.local_models import onednn

_MAX_WEIGHT = 64
"""CPUs without instructions for int8 (VNNI) add two products of 8 bits in 16, which saturates. 2 · 255 · 64 is still exact
there, so that the same model gives the same numbers on all of them."""

_MAX_INPUT = 127
_ZERO_INPUT = 128
"""What stands for 0 among inputs, which are bytes without a sign."""

_ROWS_IN_MIND = 512

_TINY = 1e-30
"""In place of the largest number of a row of zeros."""


@functools.cache
def is_available() -> bool:
    """Whether this build of torch multiplies int8 on this CPU, and gets it right with the largest numbers."""
    if not onednn.is_available() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    signs_I = torch.tensor([1, 1, -1, -1]).repeat(16)
    linear = nn.Linear(len(signs_I), 2, bias=False)
    with torch.inference_mode():
        linear.weight.copy_(torch.stack([signs_I, signs_I.abs()]))
        try:
            found_TO = Linear(linear)(torch.stack([signs_I, signs_I.abs()]).float())
        except RuntimeError:  # operators that this machine has no kernel for
            return False
    return bool(torch.allclose(found_TO, torch.tensor([[64.0, 0.0], [0.0, 64.0]])))


class Linear(nn.Module):  # type: ignore[misc]  # torch is not followed
    """`y = x Wᵀ + b` for inference, of float32 inputs and outputs."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        with torch.inference_mode():
            weight_OI = linear.weight.detach().float()
            scale_O = weight_OI.abs().amax(dim=1).clamp_(min=_TINY) / _MAX_WEIGHT
            rounded_OI = (weight_OI / scale_O.unsqueeze(1)).round_().to(torch.int8)
            self._weight: torch.Tensor = torch.ops.onednn.qlinear_prepack(rounded_OI, [_ROWS_IN_MIND, self.in_features])
            self._scale_O = scale_O / _MAX_INPUT  # of the input's scale, what is the same for all rows
            self._zeros_O = torch.zeros(self.out_features, dtype=torch.int64)
            self._bias_O = torch.zeros(self.out_features) if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The passes that torch computes with vectors: of conversions the one to int8, which `^` makes one to uint8; and no
        # norm, and not both extremes at once.
        largest_T1 = torch.maximum(x.amax(dim=-1, keepdim=True), x.amin(dim=-1, keepdim=True).neg_()).clamp_(min=_TINY)
        rounded_TI = (x * (_MAX_INPUT / largest_T1)).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO_INPUT)
        y_TO = torch.ops.onednn.qlinear_pointwise(
            rounded_TI, 1.0, _ZERO_INPUT, self._weight, self._scale_O, self._zeros_O,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self._bias_O, y_TO, largest_T1)

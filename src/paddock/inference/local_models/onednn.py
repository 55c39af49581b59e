"""Linear layers by oneDNN's kernels with weights laid out for them once, in place of torch's own call to a BLAS.

The library is part of torch. It compiles its kernels for the CPU that it finds, of whatever maker: on a Zen 5 core they do
260 GFLOP/s in float32 and 510 in bfloat16, where the BLAS of the same wheel does 112. Which layers are worth it is the
caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

_ROWS_IN_MIND = 512
"""The layout of the weights is chosen for about so many rows; any number of them works."""


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware. Elsewhere it would be slower than float32."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch from 2.10 on tells them
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def is_available() -> bool:
    """Whether this build of torch has the kernels."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def replace_linears(
    module: nn.Module, make: Callable[[nn.Linear], nn.Module], *, but: frozenset[str] = frozenset()
) -> None:
    """Put what `make` makes of it in place of each of torch's linear layers below `module`, except below children of the
    names `but`."""
    for name, child in list(module.named_children()):
        if name in but:
            continue
        if type(child) is nn.Linear:
            setattr(module, name, make(child))
        else:
            replace_linears(child, make, but=but)


class Linear(nn.Module):  # type: ignore[misc]  # torch is not followed
    """`y = x Wᵀ + b` for inference, in a type of its own; what comes out is float32, unless `fused` says otherwise. A row
    of the product is the same whatever rows stand beside it, on the machines seen so far: whoever relies on that tests it,
    as `encoder` does."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features, self._dtype = linear.in_features, linear.out_features, dtype
        with torch.inference_mode():
            weight_OI = linear.weight.detach().to(dtype).contiguous()
            self._weight: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI, _ROWS_IN_MIND)
            self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.activation = self.algorithm = "none"
        """In oneDNN's words, what is computed of the sums before they are rounded and written."""
        self.is_widened = True
        """Whether the output is made float32."""

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.ops.mkldnn._linear_pointwise(
            x.to(self._dtype), self._weight, self._bias, self.activation, [], self.algorithm
        )
        return y.float() if self.is_widened else y

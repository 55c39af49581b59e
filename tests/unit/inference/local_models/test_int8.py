"""Products in int8 against the same whole numbers multiplied in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paddock.inference.local_models import int8, onednn

pytestmark = pytest.mark.skipif(not int8.is_available(), reason="this CPU does not compute in int8")


def layer(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(num_inputs)
    return nn.Linear(num_inputs, num_outputs, bias=bias)


def rounded(values_RI: torch.Tensor, largest: int) -> torch.Tensor:
    """Each row as multiples of the `largest`-th part of its largest number."""
    step_R1 = values_RI.double().abs().amax(dim=1, keepdim=True) / largest
    return (values_RI.double() / step_R1).round() * step_R1


@pytest.mark.parametrize(("num_inputs", "num_outputs", "bias"), [(384, 1536, True), (1536, 384, False), (7, 3, True)])
def test_a_product_is_that_of_the_rounded_numbers(num_inputs: int, num_outputs: int, bias: bool) -> None:
    linear = layer(num_inputs, num_outputs, bias=bias)
    x_TI = torch.randn(33, num_inputs)
    with torch.inference_mode():
        found_TO = int8.Linear(linear)(x_TI)
        expected_TO = rounded(x_TI, 127) @ rounded(linear.weight, 64).T
        if bias:
            expected_TO = expected_TO + linear.bias.double()
        exact_TO = linear(x_TI)
    assert found_TO.dtype == torch.float32
    # Some inputs lie between two steps: rounding in single precision may take the other one.
    assert torch.allclose(found_TO.double(), expected_TO, atol=2e-3)
    assert 0 < (found_TO - exact_TO).abs().max() < 0.1


def test_the_largest_numbers_do_not_saturate() -> None:
    linear = nn.Linear(512, 4, bias=False)
    with torch.inference_mode():
        linear.weight.fill_(1.0)
        assert int8.Linear(linear)(torch.ones(2, 512)).tolist() == [[pytest.approx(512.0)] * 4] * 2
        assert int8.Linear(linear)(-torch.ones(2, 512)).tolist() == [[pytest.approx(-512.0)] * 4] * 2


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    product = int8.Linear(layer(384, 384))
    x_TI = torch.randn(50, 384) * torch.logspace(-3, 3, 50).unsqueeze(1)
    with torch.inference_mode():
        together_TO = product(x_TI)
        assert torch.equal(product(x_TI[7:9]), together_TO[7:9])
        assert torch.equal(product(x_TI.flip(0)), together_TO.flip(0))


def test_rows_of_zeros_and_of_what_is_no_number() -> None:
    linear = layer(16, 3)
    with torch.inference_mode():
        found_TO = int8.Linear(linear)(torch.stack([torch.zeros(16), torch.full((16,), torch.nan), torch.ones(16)]))
    assert torch.equal(found_TO[0], linear.bias)
    assert found_TO[1].isnan().all()
    assert found_TO[2].isfinite().all()


def test_without_the_kernels_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_available", lambda: False)
    assert not int8.is_available.__wrapped__()

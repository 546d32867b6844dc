"""Layers in bytes against the same layers in float32, and against the formula itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vermilion.nn.quantized import QuantizedLinear, available, quantize

pytestmark = pytest.mark.skipif(not available(), reason="this torch has no oneDNN for bytes")


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_two_parts_in_a_hundred_off(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(96, 64, bias=bias)
    x = torch.randn(3, 50, 96)
    with torch.inference_mode():
        expected, found = layer(x), QuantizedLinear(layer)(x)
    assert found.shape == (3, 50, 64)
    error = float((found - expected).norm() / expected.norm())
    assert 0 < error < 0.03


def test_it_is_the_formula() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(32, 8)
    x = torch.randn(5, 32)
    weight = layer.weight.detach()
    scales = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scales).round()
    steps = x.abs().amax(1, keepdim=True) / 63
    expected = steps * scales.T * ((x / steps).round() @ codes.T) + layer.bias.detach()
    with torch.inference_mode():
        torch.testing.assert_close(QuantizedLinear(layer)(x), expected, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others() -> None:
    torch.manual_seed(2)
    layer, x = QuantizedLinear(nn.Linear(48, 16)), torch.randn(7, 48)
    x[3] *= 1000
    with torch.inference_mode():
        assert torch.equal(layer(x)[5], layer(x[5:6])[0])


def test_all_layers_of_a_network() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.GELU(), nn.Linear(8, 4)))
    quantize(net)
    assert [type(m).__name__ for m in net.modules()].count("QuantizedLinear") == 2
    assert not any(isinstance(m, nn.Linear) for m in net.modules())
    zero = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(zero.weight)
    with torch.inference_mode():
        assert QuantizedLinear(zero)(torch.randn(2, 4)).abs().max() == 0

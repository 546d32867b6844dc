"""What one item gives does not depend on how many others are computed with it, to the bit."""

from __future__ import annotations

import pytest
import torch

from vermilion.nn.convolution import Conv2d
from vermilion.nn.linear import VectorLinear


@pytest.mark.parametrize("features", [(192, 768), (384, 768), (768, 512), (768, 384)])
def test_one_vector_among_others(features: tuple[int, int]) -> None:
    layer = VectorLinear(*features)
    x = torch.randn(40, features[0], generator=torch.Generator().manual_seed(0))  # (N, D)
    with torch.inference_mode():
        whole = layer(x)  # (N, D')
        for rows in (1, 2, 3, 7, 15, 16, 17, 33):
            assert torch.equal(layer(x[:rows]), whole[:rows])
    torch.testing.assert_close(whole, x @ layer.weight.t() + layer.bias)
    assert layer(x[:2]).requires_grad


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("side", [4, 8, 16])
def test_one_picture_among_others(size: int, stride: int, side: int) -> None:
    layer = Conv2d(64, 96, size, stride=stride, padding=size // 2)
    x = torch.randn(12, 64, side, side, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = layer(x)
        for count in (1, 2, 3, 5, 8):
            assert torch.equal(layer(x[:count]), whole[:count])

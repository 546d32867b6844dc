"""The convolutions of winograd.c against torch's own in double precision."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.nn import convolution
from vermilion.nn.convolution import Conv2d, conv3x3, winograd_fits

pytestmark = pytest.mark.skipif(convolution.library() is None, reason="needs a C compiler")

SHAPES = [
    (2, 16, 32, 8, 8),  # more channels of the result than tiles
    (3, 48, 16, 17, 9),  # tiles that hang over both edges; more tiles than channels
    (1, 160, 96, 3, 4),  # channels of more than one block, and a strip that is not full
    (5, 16, 16, 32, 12),  # tiles for more than one thread
    (40, 80, 48, 8, 8),  # tiles of more than one part of the weights' gradient
]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def close(found: Tensor, right: Tensor, off: float = 1e-5) -> bool:
    return bool((found.double() - right).norm() <= off * right.norm())


@pytest.mark.parametrize(("n", "channels", "outputs", "height", "width"), SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_convolution_and_its_gradients_are_torchs(
    n: int, channels: int, outputs: int, height: int, width: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    x = torch.randn(n, channels, height, width, requires_grad=True)
    weight = torch.randn(outputs, channels, 3, 3, requires_grad=True)
    bias = torch.randn(outputs, requires_grad=True)
    dy = torch.randn(n, outputs, height, width)
    y = conv3x3(x, weight, bias)
    found = torch.autograd.grad(y, (x, weight, bias), dy)
    x64, weight64, bias64 = (part.detach().double().requires_grad_() for part in (x, weight, bias))
    right = F.conv2d(x64, weight64, bias64, padding=1)
    expected = torch.autograd.grad(right, (x64, weight64, bias64), dy.double())
    assert close(y, right)
    assert all(close(one, other) for one, other in zip(found, expected, strict=True))


def test_a_picture_does_not_depend_on_its_batch_or_on_threads() -> None:
    x = torch.randn(7, 32, 12, 12)
    weight = torch.randn(16, 32, 3, 3)
    torch.set_num_threads(1)
    alone = torch.cat([conv3x3(one[None], weight) for one in x])
    torch.set_num_threads(2)
    assert torch.equal(conv3x3(x, weight), alone)


def test_pixels_are_enlarged_on_the_way() -> None:
    x, weight = torch.randn(2, 16, 5, 6), torch.randn(16, 16, 3, 3)
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    assert torch.equal(conv3x3(x, weight, scale=2), conv3x3(enlarged, weight))
    weight.requires_grad_()
    (found,) = torch.autograd.grad(conv3x3(x, weight, scale=2).square().sum(), weight)
    right = F.conv2d(enlarged.double(), weight.double(), padding=1).square().sum()
    assert close(found, torch.autograd.grad(right, weight)[0])


def test_the_layer_goes_the_fast_way_where_there_is_one() -> None:
    def way(layer: Conv2d, x: Tensor) -> str:
        return type(layer(x).grad_fn).__name__

    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    assert "Conv3x3" in way(Conv2d(16, 16, 3, padding=1), x)
    others = (
        Conv2d(16, 16, 3, padding=1, stride=2),
        Conv2d(16, 16, 3),
        Conv2d(16, 16, 1),
        Conv2d(16, 3, 3, padding=1),
        Conv2d(16, 16, 3, padding=1, groups=2),
        Conv2d(16, 16, 3, padding=1, padding_mode="circular"),
    )
    assert not any("Conv3x3" in way(other, x) for other in others)
    assert not winograd_fits(x.double(), torch.randn(16, 16, 3, 3))
    assert not winograd_fits(x[:, :, :1, :1], torch.randn(16, 16, 3, 3))
    plain = torch.nn.Conv2d(16, 3, 3, padding=1)
    layer = Conv2d(16, 3, 3, padding=1)
    layer.load_state_dict(plain.state_dict())
    torch.testing.assert_close(layer(x), plain(x))
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(layer(x, scale=2), plain(enlarged))


def test_it_can_be_switched_off_and_done_without() -> None:
    told = (
        "import torch; from vermilion.nn.convolution import Conv2d;"
        "layer = Conv2d(16, 16, 3, padding=1);"
        "print(type(layer(torch.zeros(1, 16, 8, 8))).__name__, layer(torch.zeros(1, 16, 8, 8))"
        ".grad_fn.name())"
    )
    for switch in ({"VERMILION_WINOGRAD": "0"}, {"CC": "no-such-compiler"}):
        ran = subprocess.run(
            [sys.executable, "-c", told],
            env={**os.environ, **switch},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == ["Tensor", "ConvolutionBackward0"]

"""The operators of maps.c against torch's own in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.nn import maps
from vermilion.nn.maps import GroupNorm, gated

pytestmark = pytest.mark.skipif(maps.library() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def map_of(*shape: int) -> Tensor:
    """Features far from 0, the channels last in memory."""
    x = 3 + 2 * torch.randn(shape) + torch.randn(shape[:2])[:, :, None, None]
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 32, 5, 7), 4), ((3, 48, 16, 9), 8), ((1, 16, 1, 1), 2), ((2, 320, 16, 16), 32)],
)
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_group_norm_and_its_gradients_are_torchs(
    shape: tuple[int, ...], groups: int, silu: bool, told: bool
) -> None:
    torch.set_num_threads(2)
    layer = GroupNorm(groups, shape[1], eps=1e-3)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x, dy = map_of(*shape), torch.randn(shape)
    film = torch.randn(shape[0], 2 * shape[1], requires_grad=True) if told else None
    given = (x, layer.weight, layer.bias, *(() if film is None else (film,)))
    y = layer(x, silu=silu, told=film)
    assert type(y.grad_fn).__name__ == "_GroupNormBackward"
    found = torch.autograd.grad(y, given, dy)
    assert y.is_contiguous(memory_format=torch.channels_last)

    doubles = [part.detach().double().requires_grad_() for part in given]
    right = F.group_norm(doubles[0], groups, doubles[1], doubles[2], 1e-3)
    if told:
        scale, shift = doubles[3][:, :, None, None].chunk(2, dim=1)
        right = (1 + scale) * right + shift
    right = F.silu(right) if silu else right
    expected = torch.autograd.grad(right, doubles, dy.double())
    torch.testing.assert_close(y, right.float(), rtol=1e-5, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=2e-5)

    plain = layer(x.flatten(2), silu=silu, told=film).view(shape)  # torch's own way
    torch.testing.assert_close(plain, y, rtol=1e-5, atol=1e-5)


def test_a_mean_far_from_zero_does_no_harm() -> None:
    x = (1000 + torch.randn(2, 16, 12, 12)).contiguous(memory_format=torch.channels_last)
    x = x.requires_grad_()
    layer, dy = GroupNorm(2, 16), torch.randn(2, 16, 12, 12)
    (found,) = torch.autograd.grad(layer(x), x, dy)
    x64 = x.detach().double().requires_grad_()
    (right,) = torch.autograd.grad(F.group_norm(x64, 2, eps=1e-5), x64, dy.double())
    torch.testing.assert_close(layer(x), F.group_norm(x64, 2).float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found, right.float(), rtol=1e-3, atol=1e-3)


def test_a_picture_does_not_depend_on_its_batch_or_on_threads() -> None:
    x, layer = map_of(5, 32, 12, 12).detach(), GroupNorm(4, 32)
    torch.set_num_threads(1)
    alone = torch.cat([layer(one[None], silu=True) for one in x])
    torch.set_num_threads(2)
    assert torch.equal(layer(x, silu=True), alone)


@pytest.mark.parametrize(("rows", "size"), [((3, 5), 16), ((1,), 48), ((2, 3, 4), 12)])
@pytest.mark.parametrize("biased", [False, True])
def test_gates_and_their_gradients_are_torchs(
    rows: tuple[int, ...], size: int, biased: bool
) -> None:
    given = [2 * torch.randn(*rows, 2 * size)]
    given += [torch.randn(2 * size)] if biased else []
    dy = torch.randn(*rows, size)
    for part in given:
        part.requires_grad_()
    y = gated(*given)
    found = torch.autograd.grad(y, given, dy)
    doubles = [part.detach().double().requires_grad_() for part in given]
    value, gate = (doubles[0] + doubles[1] if biased else doubles[0]).chunk(2, dim=-1)
    right = value * F.gelu(gate)
    expected = torch.autograd.grad(right, doubles, dy.double())
    torch.testing.assert_close(y, right.float(), rtol=1e-5, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


def test_gates_that_do_not_fit_are_torchs() -> None:
    h, bias = torch.randn(3, 10), torch.randn(10)
    value, gate = (h + bias).chunk(2, dim=-1)
    torch.testing.assert_close(gated(h, bias), value * F.gelu(gate))

"""Convolutions of 3x3 by Winograd's algorithm on a CPU: winograd.c.

They take the place of torch's where `winograd_fits` says so, with the same results but for
rounding: they are 1 to 5 parts in a million of a result's size off, where torch's are
up to 3. VERMILION_WINOGRAD=0 keeps torch's.

N pictures, C channels, K channels of the result, H height, W width.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import Structure, byref, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vermilion.nn import linear
from vermilion.nn.compiled import FAST, compiled, room

_SMALL = 32 * 32  # places
TILE = 4
"""Results are computed in squares of so many places a side."""


class _Conv(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "height", "width", "channels", "outputs")),
        *((name, c_int64) for name in ("scale", "out", "in", "turned")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled winograd.c; None where there is no C compiler, or it is not wanted."""
    if os.environ.get("VERMILION_WINOGRAD") == "0":
        return None
    here = Path(__file__).parent
    loaded = compiled(
        [here / name for name in ("winograd.c", "winograd.h", "lanes.h", "vectors.h")], FAST
    )
    if loaded is not None:
        loaded.winograd_room.restype = loaded.winograd_weights_room.restype = c_int64
        loaded.winograd.restype = loaded.winograd_weights.restype = None
    return loaded


def winograd_fits(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv3x3` can compute this convolution and saves time.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3), of a convolution with stride 1 and a border of one zero.
    """
    found = library()
    if found is None or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if x.device.type != "cpu" or weight.shape[2:] != (3, 3) or not weight.is_contiguous():
        return False
    (outputs, channels), (height, width) = weight.shape[:2], x.shape[2:]
    # A tile that hangs over the edge is computed whole.
    computed = -(-height // TILE) * -(-width // TILE) * TILE**2
    whole = channels % found.lanes() == 0 and outputs % found.lanes() == 0
    return whole and x.numel() > 0 and 2 * height * width >= computed


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: int = 1) -> Tensor:
    """A convolution with stride 1 and a border of one zero, where `winograd_fits`.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3).
        bias: (K,) or None.
        scale: 2: each pixel of x stands for four, as after nearest-neighbour enlarging.

    Returns:
        (N, K, scale H, scale W), whose channels lie last in memory.
    """
    if scale != 1 and torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        x, scale = F.interpolate(x, scale_factor=scale, mode="nearest"), 1
    y: Tensor = _Conv3x3.apply(x, weight, bias, scale)  # type: ignore[no-untyped-call]
    return y


class Conv2d(linear.Conv2d):
    """`torch.nn.Conv2d` that takes the fast way where there is one."""

    def forward(self, x: Tensor, scale: int = 1) -> Tensor:
        """(N, C, H, W) → (N, K, H', W').

        Args:
            x: the picture.
            scale: 2: x is first enlarged so many times, each pixel to a square.
        """
        plain = (self.stride, self.padding, self.dilation, self.groups, self.padding_mode)
        if plain == ((1, 1), (1, 1), (1, 1), 1, "zeros") and winograd_fits(x, self.weight):
            return conv3x3(x, self.weight, self.bias, scale)
        x = x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="nearest")
        small = x.shape[2] * x.shape[3] <= _SMALL
        if small and len(x) == 1 and x.device.type == "cpu" and not torch.is_grad_enabled():
            # Of a single picture torch takes another way, whose last digits differ. Large ones
            # are painted one at a time anyway.
            return super().forward(torch.cat((x, x)))[:1]
        return super().forward(x)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = _convolve(dy, weight, None, backward=True)
        if ctx.needs_input_grad[1]:
            dw = _gradient(x, dy)
        if ctx.needs_input_grad[2]:
            db = dy.permute(0, 2, 3, 1).flatten(0, 2).sum(0)  # (K,)
        return dx, dw, db, None


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: int = 1, *, backward: bool = False
) -> Tensor:
    """The convolution, or with `backward` that which gives the gradient of its input."""
    found: Any = library()
    n, channels, height, width = x.shape
    strides = weight.stride()[:2]
    if backward:
        strides = strides[::-1]
    outputs = weight.shape[1 if backward else 0]
    shape = _Conv(n, height * scale, width * scale, channels, outputs, scale, *strides, backward)
    threads = torch.get_num_threads()
    size = (n, outputs, height * scale, width * scale)
    y = torch.empty(size, memory_format=torch.channels_last)
    held = room(found.winograd_room(byref(shape), threads))
    added = None if bias is None else _pointer(bias)
    found.winograd(
        byref(shape), _pointer(x), _pointer(weight), added, _pointer(y), _pointer(held), threads
    )
    return y


def _gradient(x: Tensor, dy: Tensor) -> Tensor:
    """The gradient (K, C, 3, 3) of the weights."""
    found: Any = library()
    n, channels, height, width = x.shape
    shape = _Conv(n, height, width, channels, dy.shape[1], 1, 0, 0, 0)
    dw = x.new_empty(dy.shape[1], channels, 3, 3)
    held = room(found.winograd_weights_room(byref(shape)))
    found.winograd_weights(
        byref(shape),
        _pointer(x),
        _pointer(dy),
        _pointer(dw),
        _pointer(held),
        torch.get_num_threads(),
    )
    return dw


def _pointer(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())

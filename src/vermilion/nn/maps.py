"""Operators on the feature maps of pictures that are compiled for this processor: maps.c.

Group normalisation with what follows it, and gates of GELU; where they do not fit, torch's own do
the same. What is fast lies in memory with the channels last.

N pictures, C channels, H W height and width, F features.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vermilion.nn.compiled import FAST, compiled, room
from vermilion.nn.feed_forward import ACTIVATIONS


class _Norm(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "places", "channels", "groups", "apart")),
        ("eps", c_float),
        ("silu", c_int32),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled maps.c; None where there is no C compiler."""
    here = Path(__file__).parent
    loaded = compiled([here / name for name in ("maps.c", "lanes.h", "vectors.h")], FAST)
    if loaded is not None:
        loaded.norm_room.restype = c_int64
        for name in ("norm", "norm_backward", "gate", "gate_backward"):
            getattr(loaded, name).restype = None
    return loaded


def _fits(channels: int, *tensors: Tensor | None) -> bool:
    """Whether these can be computed on here: float32 on a CPU, channels in whole vectors."""
    found = library()
    return (
        found is not None
        and channels % found.lanes() == 0
        and all(x is None or (x.dtype == torch.float32 and x.device.type == "cpu") for x in tensors)
    )


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018, eq. 1), and a SiLU behind it if asked.

    Args:
        num_groups: into which the channels are divided.
        num_channels: C.
        eps: added to the variance.
    """

    def forward(self, x: Tensor, silu: bool = False, told: Tensor | None = None) -> Tensor:
        """(N, C, ...) → (N, C, ...), in memory as x.

        Args:
            x: the features.
            silu: whether silu(y) is given instead of y.
            told: (N, 2C): scales s and shifts b, for (1 + s) y + b (Dhariwal & Nichol 2021,
                sec. 3).
        """
        gain: Tensor = self.weight  # (C,)
        shift: Tensor = self.bias  # (C,)
        if told is not None:
            scale, add = told.chunk(2, dim=1)  # (N, C) each
            gain, shift = gain * (1 + scale), torch.addcmul(add, shift, 1 + scale)  # (N, C) each
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        if last and x.numel() > 0 and _fits(x.shape[1], x, gain):
            y: Tensor = _GroupNorm.apply(  # type: ignore[no-untyped-call]
                x, gain, shift, self.num_groups, self.eps, silu
            )
            return y
        y = super().forward(x)
        if told is not None:
            scale, add = (part[..., *(None,) * (x.dim() - 2)] for part in told.chunk(2, dim=1))
            y = torch.addcmul(add, y, 1 + scale)  # (N, C, ...)
        return ACTIVATIONS["silu"](y) if silu else y


def gated(h: Tensor, bias: Tensor | None = None) -> Tensor:
    """The second half of the features gates the first (Shazeer 2020, eq. 6): a * gelu(b).

    Args:
        h: (..., 2F).
        bias: (2F,), added to h first: a product that adds one itself copies it to every row.

    Returns:
        (..., F).
    """
    if _fits(h.shape[-1] // 2, h, bias):
        y: Tensor = _Gate.apply(h, bias)  # type: ignore[no-untyped-call]
        return y
    value, gate = (h if bias is None else h + bias).chunk(2, dim=-1)  # (..., F) each
    return value * F.gelu(gate)


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        n, channels, places = len(x), x.shape[1], x[0, 0].numel()
        gain, shift = gain.contiguous(), shift.contiguous()
        ctx.shape = _Norm(n, places, channels, groups, channels * (gain.dim() > 1), eps, silu)
        y = torch.empty_like(x)
        mean, inverse = x.new_empty(2, n, groups)
        _call("norm", ctx.shape, x, gain, shift, y, mean, inverse)
        ctx.save_for_backward(x, gain, shift, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, mean, inverse = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        d_gain, d_shift = x.new_empty(2, len(x), x.shape[1])
        found = (dx, d_gain, d_shift)
        _call("norm_backward", ctx.shape, x, dy, gain, shift, mean, inverse, *found)
        if gain.dim() == 1:
            d_gain, d_shift = d_gain.sum(0), d_shift.sum(0)  # (C,)
        return dx, d_gain, d_shift, None, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, bias: Tensor | None) -> Tensor:
        h = h.contiguous()
        ctx.save_for_backward(h, bias)
        y = h.new_empty(*h.shape[:-1], h.shape[-1] // 2)
        _gate("gate", h, bias, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        h, bias = ctx.saved_tensors
        dh = torch.empty_like(h)
        _gate("gate_backward", h, bias, gradients[0].contiguous(), dh)
        return dh, None if bias is None else dh.flatten(0, -2).sum(0)


def _call(name: str, shape: _Norm, *tensors: Tensor) -> None:
    """Call a function of maps.c on this thread's share of the cores."""
    found: Any = library()
    held = room(found.norm_room(byref(shape)))
    pointers = (c_void_p(x.data_ptr()) for x in (*tensors, held))
    getattr(found, name)(byref(shape), *pointers, torch.get_num_threads())


def _gate(name: str, h: Tensor, bias: Tensor | None, *tensors: Tensor) -> None:
    size = h.shape[-1] // 2
    pointers = [None if x is None else c_void_p(x.data_ptr()) for x in (h, bias, *tensors)]
    rows = (c_int64(h.numel() // (2 * size)), c_int64(size))
    getattr(library(), name)(*pointers, *rows, torch.get_num_threads())

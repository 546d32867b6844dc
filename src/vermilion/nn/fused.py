"""Operators of training that are compiled for this processor: training.c.

They take the place of torch's where `usable` says so, with the same results but for rounding.
Attention keeps neither scores nor masks for the backward pass, and skips what a causal mask hides.

B batch, H heads, G key/value heads, T tokens, D head size.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vermilion.nn.compiled import FAST, compiled

LEVELS = 256
"""A probability of dropout is a whole number of so many parts."""

ACTIVATIONS = {"silu": 0, "gelu_new": 2}


class _Drop(Structure):
    _fields_ = (("key", c_uint32 * 2), ("dropped", c_int32), ("scale", c_float))


class _Attention(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "heads", "groups", "tokens", "size")),
        ("scale", c_float),
        ("drop", _Drop),
    )


class _View(Structure):
    _fields_ = (("at", c_void_p), ("batch", c_int64), ("head", c_int64), ("token", c_int64))


@cache
def library() -> ctypes.CDLL | None:
    """The compiled training.c; None where there is no C compiler."""
    here = Path(__file__).parent
    loaded = compiled([here / "training.c", here / "vectors.h"], FAST)
    if loaded is not None:
        loaded.drop.restype = loaded.activate.restype = None
        loaded.attend.restype = loaded.attend_backward.restype = ctypes.c_int
    return loaded


def usable(*tensors: Tensor) -> bool:
    """Whether these are trained on here: float32 on a CPU, gradients wanted, and a compiler."""
    return (
        torch.is_grad_enabled()
        and any(x.requires_grad for x in tensors)
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and library() is not None
    )


def _call(name: str, *arguments: Any) -> None:
    """Call a function of training.c on this thread's share of the cores."""
    if getattr(library(), name)(*arguments, torch.get_num_threads()):
        raise MemoryError(f"{name}: out of memory")


def _drop_of(dropped: int) -> _Drop:
    """Dropout of `dropped` of 256 numbers, with a new key."""
    drawn = torch.randint(1 << 32, (2,)).tolist() if dropped else (0, 0)
    return _Drop((c_uint32 * 2)(*drawn), dropped, LEVELS / (LEVELS - dropped))


def _pointer(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())


def dropout(x: Tensor, dropped: int) -> Tensor:
    """x, any shape, with each number 0 with probability dropped/256, else scaled up.

    A byte of noise, a hash of a key and the number's place, decides about each; the backward pass
    makes it again. The key is drawn from torch's generator.

    Args:
        x: see `usable`.
        dropped: 1 to 255.
    """
    y: Tensor = _Dropout.apply(x, dropped)  # type: ignore[no-untyped-call]
    return y


def activation(x: Tensor, name: str) -> Tensor:
    """An activation of `ACTIVATIONS` of x, any shape."""
    y: Tensor = _Activation.apply(x, ACTIVATIONS[name])  # type: ignore[no-untyped-call]
    return y


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, dropped: int) -> Tensor:
    """dropout(softmax(scale q kᵀ)) v, where query t looks at keys 0 .. t.

    Block by block, with the softmax made again in the backward pass (Dao et al. 2022, alg. 1, 4).

    Args:
        q: (B, H, T, D); see `usable`.
        k: (B, G, T, D); each key head serves H/G query heads in turn.
        v: (B, G, T, D).
        scale: of q kᵀ.
        dropped: of 256 weights, 0 to 255; the noise as in `dropout`.

    Returns:
        (B, H, T, D), which lies in memory as (B, T, H, D).

    Raises:
        MemoryError: there is no room for what a thread computes with.
    """
    y: Tensor = _CausalAttention.apply(q, k, v, scale, dropped)  # type: ignore[no-untyped-call]
    return y


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        ctx.drop = _drop_of(dropped)
        return _Dropout._dropped(x, ctx.drop)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Dropout._dropped(gradients[0], ctx.drop), None

    @staticmethod
    def _dropped(x: Tensor, drop: _Drop) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        _call("drop", _pointer(x), _pointer(y), c_int64(x.numel()), byref(drop))
        return y


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: int) -> Tensor:
        x = x.contiguous()
        ctx.kind = kind
        ctx.save_for_backward(x)
        y = torch.empty_like(x)
        _call("activate", _pointer(x), None, _pointer(y), c_int64(x.numel()), kind)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        dy, dx = gradients[0].contiguous(), torch.empty_like(x)
        _call("activate", _pointer(x), _pointer(dy), _pointer(dx), c_int64(x.numel()), ctx.kind)
        return dx, None


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, dropped: int) -> Tensor:
        q, k, v = (_dense(x) for x in (q, k, v))
        y, logs = _like(q), q.new_empty(q.shape[:3])
        shape = (q.shape[0], q.shape[1], k.shape[1], q.shape[2], q.shape[3])
        ctx.attention = _Attention(*shape, scale, _drop_of(dropped))
        _call("attend", byref(ctx.attention), *map(_view, (q, k, v, y)), _pointer(logs))
        ctx.save_for_backward(q, k, v, y, logs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, logs = ctx.saved_tensors
        found = [_like(x) for x in (q, k, v)]
        dy = _dense(gradients[0])  # named, so that it lives while it is read
        given, wanted = map(_view, (q, k, v, y)), map(_view, (dy, *found))
        _call("attend_backward", byref(ctx.attention), *given, _pointer(logs), *wanted)
        return (*found, None, None)


def _dense(x: Tensor) -> Tensor:
    """x, without gaps in the last dimension."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """Room for (B, H, T, D) that lies as (B, T, H, D)."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2)


def _view(x: Tensor) -> _View:
    return _View(x.data_ptr(), *x.stride()[:3])

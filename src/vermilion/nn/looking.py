"""Attention without a mask on a CPU: looking.c. Nothing is kept for gradients.

B batch, H heads, T queries, S keys, D head size.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vermilion.nn.compiled import FAST, compiled, room


class _Attention(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "heads", "queries", "keys", "size")),
        ("scale", c_float),
    )


class _View(Structure):
    _fields_ = (("at", c_void_p), ("batch", c_int64), ("head", c_int64), ("token", c_int64))


@cache
def library() -> ctypes.CDLL | None:
    """The compiled looking.c; None where there is no C compiler."""
    here = Path(__file__).parent
    loaded = compiled([here / name for name in ("looking.c", "lanes.h", "vectors.h")], FAST)
    if loaded is not None:
        loaded.attend_room.restype, loaded.attend.restype = c_int64, None
    return loaded


def usable(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `attend` can compute these: float32 on a CPU, as many key heads, no gradients."""
    given = (q, k, v)
    return (
        not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in given)
        and q.shape[:2] == k.shape[:2]
        and k.shape[2] > 0
        and library() is not None
    )


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q kᵀ) v, where `usable`.

    Args:
        q: (B, H, T, D).
        k: (B, H, S, D).
        v: (B, H, S, D).
        scale: of q kᵀ.

    Returns:
        (B, H, T, D), which lies in memory as (B, T, H, D).
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, tokens, size = q.shape
    y = q.new_empty(batch, tokens, heads, size).transpose(1, 2)
    shape = _Attention(batch, heads, tokens, k.shape[2], size, scale)
    found: Any = library()
    threads = torch.get_num_threads()
    held = room(found.attend_room(byref(shape), threads))
    views = (_View(x.data_ptr(), *x.stride()[:3]) for x in (q, k, v, y))
    found.attend(byref(shape), *views, c_void_p(held.data_ptr()), threads)
    return y

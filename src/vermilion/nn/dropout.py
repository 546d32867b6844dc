"""Dropout whose masks are cheap to draw on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.nn import fused
from vermilion.nn.fused import LEVELS

_CLOSE = 0.05  # how far, relatively, the probability may be from what was asked for


class _ByteDropout(torch.autograd.Function):
    """A byte of noise decides about each feature: an eighth of the random numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        noise = words.view(torch.uint8)[: x.numel()].view(x.shape)
        kept = noise >= dropped
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return torch.where(kept, x * ctx.scale, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, gradients[0] * ctx.scale, 0.0), None


def parts(p: float) -> int | None:
    """How many of 256 numbers are dropped for a probability p; None: it needs a finer measure."""
    dropped = round(p * LEVELS)
    return None if abs(dropped / LEVELS - p) > _CLOSE * p or dropped == LEVELS else dropped


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout (Srivastava et al. 2014): each feature is 0 with probability p, else x / (1 - p).

    On a CPU p is rounded to a 256th, 0.1 to 0.1016, and what is kept is scaled by what p became;
    that is several times faster than drawing a number for each feature. A p that this would
    change by more than a twentieth of itself, and other devices, have torch's own.

    Args:
        x: any shape, floating point.
        p: 0 to below 1.
        training: nothing is dropped without it.
    """
    if not training or p == 0:
        return x
    dropped = parts(p) if x.device.type == "cpu" else None
    if dropped is not None and fused.usable(x):
        return fused.dropout(x, dropped)
    if dropped is None:
        return F.dropout(x, p, training)
    y: Tensor = _ByteDropout.apply(x, dropped)  # type: ignore[no-untyped-call]
    return y

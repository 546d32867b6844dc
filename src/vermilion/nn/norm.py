"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Root mean square layer normalisation (Zhang & Sennrich 2019, eq. 4).

        y = x / sqrt(mean(x²) + eps) * weight

    Args:
        size: number of features C in the last dimension.
        eps: added to the mean square.
    """

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x, (..., C) → (..., C)."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba, Kiros & Hinton 2016, eq. 4).

        y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias

    Args:
        size: number of features C in the last dimension.
        eps: added to the variance.
    """

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x, (..., C) → (..., C)."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)

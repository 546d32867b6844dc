"""Linear, convolution and embedding layers that can be laid out before there are weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEWEST_ROWS = 16


class Linear(nn.Linear):
    """`torch.nn.Linear` that draws no first weights on the meta device, where none can be.

    (Drawing them there has no effect but to import a second's worth of torch's compiler.)
    """

    def reset_parameters(self) -> None:
        """Draw first weights."""
        if not self.weight.is_meta:
            super().reset_parameters()


class VectorLinear(Linear):
    """`Linear` for one vector a picture, the same to the bit for any number of pictures.

    A product of few rows is made by other kernels than one of many, whose last digits differ. So
    fewer rows than sixteen are filled up with zeros, unless a gradient is wanted.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, D) → (N, D'), or any other shape as `Linear`."""
        rows = len(input)
        if input.dim() != 2 or rows >= _FEWEST_ROWS or torch.is_grad_enabled():
            return super().forward(input)
        filled = F.pad(input, (0, 0, 0, _FEWEST_ROWS - rows))  # (16, D)
        return super().forward(filled)[:rows]  # (N, D')


class Embedding(nn.Embedding):
    """`torch.nn.Embedding`, likewise."""

    def reset_parameters(self) -> None:
        """Draw first weights."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, likewise."""

    def reset_parameters(self) -> None:
        """Draw first weights."""
        if not self.weight.is_meta:
            super().reset_parameters()

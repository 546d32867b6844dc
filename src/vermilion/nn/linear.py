"""Linear, convolution and embedding layers that can be laid out before there are weights."""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """`torch.nn.Linear` that draws no first weights on the meta device, where none can be.

    (Drawing them there has no effect but to import a second's worth of torch's compiler.)
    """

    def reset_parameters(self) -> None:
        """Draw first weights."""
        if not self.weight.is_meta:
            super().reset_parameters()


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

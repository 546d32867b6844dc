"""SimCLR (Chen et al. 2020, sec. 2.1): two views of a picture shall have vectors that lie close.

    h = f(x)                  f: a picture tower; h is what is kept and used
    z = W2 relu(W1 h)         the projection head; the loss, `loss.nt_xent`, compares z

N pictures, C channels, S side, D features of h, P of z.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vermilion.models.contrast.net import VisionTransformer
from vermilion.models.contrast.resnet import ResNet
from vermilion.nn.linear import Linear


class ProjectionHead(nn.Module):
    """Two products with ReLU between; what stands before it is the better vector (sec. 4.2)."""

    def __init__(self, size: int, projection_dim: int) -> None:
        super().__init__()
        self.hidden = Linear(size, size)
        self.out = Linear(size, projection_dim, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """(N, D) → (N, P)."""
        z: Tensor = self.out(self.hidden(h).relu())
        return z


class SimCLR(nn.Module):
    """A picture tower with a projection head, as it is trained.

    Args:
        encoder: f.
        projection_dim: P.
    """

    def __init__(self, encoder: VisionTransformer | ResNet, projection_dim: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection_head = ProjectionHead(encoder.size, projection_dim)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Give z of two views of each picture: (N, C, S, S) twice → (N, P) twice.

        Both go through the tower together, so that BatchNorm sees them as one batch.
        """
        z = self.projection_head(self.encoder(torch.cat((first, second))))  # (2N, P)
        one, two = z.chunk(2)
        return one, two

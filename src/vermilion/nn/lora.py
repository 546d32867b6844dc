"""Low-rank adaptation. R rank, C features in, F features out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.nn.dropout import dropout
from vermilion.nn.linear import Linear


class LoRALinear(nn.Module):
    """A linear layer that is frozen, and a product of two thin matrices that is learned.

        y = W x + b + (alpha / R) B A x        Hu et al. 2021, eq. 3

    A layer that joins several projections, one above the other, has an A and a B for each, so
    that they can be told apart. B is 0 at first: the layer begins as it was.

    Args:
        base: the layer.
        sizes: features that each of its projections gives; they add up to F.
        adapted: whether each of them is adapted.
        rank: R.
        alpha: scale of what is learned, in units of R.
        dropout: probability that a feature that goes into A is dropped in training.
    """

    def __init__(
        self,
        base: nn.Linear,
        sizes: Sequence[int],
        adapted: Sequence[bool],
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if sum(sizes) != base.out_features or len(sizes) != len(adapted):
            raise ValueError("sizes: must add up to the features that the layer gives")
        self.base = base.requires_grad_(requires_grad=False)
        self.sizes, self.adapted = tuple(sizes), tuple(adapted)
        self.scale, self.dropout = alpha / rank, dropout
        where, size_in = base.weight.device, base.in_features
        chosen = [(str(i), sizes[i]) for i, wanted in enumerate(adapted) if wanted]
        self.a = nn.ParameterDict(
            {i: nn.Parameter(torch.empty(rank, size_in, device=where)) for i, _ in chosen}
        )
        self.b = nn.ParameterDict(
            {i: nn.Parameter(torch.zeros(size, rank, device=where)) for i, size in chosen}
        )

    def pairs(self) -> Iterator[tuple[int, nn.Parameter, nn.Parameter]]:
        """Number, A and B of every projection that is adapted."""
        for name, a in self.a.items():
            yield int(name), a, self.b[name]

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw A, uniform within sqrt(1/C) as `peft` does it, and set B to 0."""
        for _, a, b in self.pairs():
            bound = 1 / math.sqrt(self.base.in_features)
            drawn = torch.empty(a.shape).uniform_(-bound, bound, generator=generator)
            a.copy_(drawn)
            b.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., F)."""
        h = dropout(x, self.dropout, self.training)  # (..., C)
        pairs = {number: (a, b) for number, a, b in self.pairs()}
        parts = [
            F.linear(F.linear(h, pairs[i][0]), pairs[i][1])
            if i in pairs
            else x.new_zeros(*x.shape[:-1], size)
            for i, size in enumerate(self.sizes)
        ]  # (..., F_i) each
        y: Tensor = self.base(x)  # (..., F)
        return y + self.scale * torch.cat(parts, dim=-1)  # (..., F)

    @torch.no_grad()
    def merged(self) -> Linear:
        """A plain layer with the same result, in weights of its own."""
        base = self.base
        layer = Linear(
            base.in_features,
            base.out_features,
            bias=base.bias is not None,
            device=base.weight.device,
            dtype=base.weight.dtype,
        )
        layer.load_state_dict(base.state_dict())
        rows = torch.split(layer.weight, list(self.sizes))
        for number, a, b in self.pairs():
            rows[number].add_(b @ a, alpha=self.scale)
        return layer.requires_grad_(requires_grad=False)


def replace(net: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of the one with this name."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, layer)


def merge(net: nn.Module) -> None:
    """Turn every adapted layer of a network into a plain one."""
    for name, layer in list(net.named_modules()):
        if isinstance(layer, LoRALinear):
            replace(net, name, layer.merged())

"""Feed-forward layers. B batch, T tokens, C features, F features within."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.nn import fused
from vermilion.nn.linear import Linear


def _silu(x: Tensor) -> Tensor:
    return fused.activation(x, "silu") if fused.usable(x) else F.silu(x)


def _gelu_new(x: Tensor) -> Tensor:
    return fused.activation(x, "gelu_new") if fused.usable(x) else F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": _silu,
    "gelu": F.gelu,
    "gelu_new": _gelu_new,
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),
}
"""By the names of transformers. GELU is x Φ(x) (Hendrycks & Gimpel 2016); GPT-2 approximates it
with a tanh, CLIP with a sigmoid. SiLU is x sigmoid(x)."""


class FeedForward(nn.Module):
    """Two products with an activation between, for each token by itself.

        down(f(up(x)))                Vaswani et al. 2017, eq. 2
        down(f(gate(x)) * up(x))      gated: Shazeer 2020, eq. 6; SwiGLU where f is SiLU

    Gate and up are one matrix: one product is faster than two.

    Args:
        size: C.
        inner: F.
        activation: f, a name in `ACTIVATIONS`.
        gated: whether there is a gate.
        bias: whether the products add one.
    """

    def __init__(
        self, size: int, inner: int, *, activation: str, gated: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.activation, self.gated = ACTIVATIONS[activation], gated
        if gated:
            self.gate_up = Linear(size, 2 * inner, bias=bias)
        else:
            self.up = Linear(size, inner, bias=bias)
        self.down = Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        if self.gated:
            gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, F) each
            hidden = self.activation(gate) * up  # (B, T, F)
        else:
            hidden = self.activation(self.up(x))  # (B, T, F)
        y: Tensor = self.down(hidden)  # (B, T, C)
        return y

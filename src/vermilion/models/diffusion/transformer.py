"""Attention over the places of a picture and to a text, under the names of diffusers' weights.

N items, C channels, H W height and width, T = H W places, S tokens of the context, D features of
such a token, F features within.

Feature maps lie in memory with the channels last, so that a map of (N, C, H, W) is read as the
tokens (N, T, C) without a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.nn.attention import attention
from vermilion.nn.linear import Conv2d, Linear
from vermilion.nn.maps import GroupNorm, gated
from vermilion.nn.norm import LayerNorm

_TOGETHER = 1024


def to_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, T, C); no copy where the channels lie last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(N, T, C) → (N, C, H, W), a view whose channels lie last."""
    return x.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


def repeated(x: Tensor, other: Tensor) -> Tensor:
    """x, (N, ...), as often as it takes to have the items of another: item i is also N + i."""
    times = len(other) // len(x)
    return x if times == 1 else x.repeat(times, *(1,) * (x.dim() - 1))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, sec. 3.2.2) with a projection for each of q, k, v.

    `nn.attention.MultiHeadAttention` joins them; here they stay apart because published LoRA files
    change each by itself.

    Args:
        size: C.
        heads: how many.
        head_dim: size of a head.
        context_size: D; None: it attends to itself.
        bias: whether the projections to q, k, v have one.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        head_dim: int,
        *,
        context_size: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.inner = heads, heads * head_dim
        seen = size if context_size is None else context_size
        self.to_q = Linear(size, self.inner, bias=bias)
        self.to_k = Linear(seen, self.inner, bias=bias)
        self.to_v = Linear(seen, self.inner, bias=bias)
        self.to_out = nn.ModuleList((Linear(self.inner, size),))

    def attend(self, x: Tensor, context: Tensor) -> Tensor:
        """From x (N, T, C) to the context (N, S, D), giving (N, T, C)."""
        q, k, v = (
            part.view(len(part), -1, self.heads, self.inner // self.heads).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )  # (N, heads, T, C/heads), (N, heads, S, C/heads) twice
        seen = attention(q, k, v).transpose(1, 2).flatten(2)  # (N, T, C)
        y: Tensor = self.to_out[0](seen)  # (N, T, C)
        return y


class SpatialAttention(Attention):
    """Attention of the places of a map to one another, added to the map.

    Args:
        channels: C.
        head_dim: size of a head.
        groups: of the normalisation before; None: there is none.
        eps: of the normalisation.
    """

    def __init__(self, channels: int, head_dim: int, *, groups: int | None, eps: float) -> None:
        super().__init__(channels, channels // head_dim, head_dim, bias=True)
        self.group_norm = nn.Identity() if groups is None else GroupNorm(groups, channels, eps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, C, H, W) → (N, C, H, W); the context is not looked at."""
        tokens = to_tokens(self.group_norm(x))  # (N, T, C)
        return x + to_map(self.attend(tokens, tokens), *x.shape[2:])  # (N, C, H, W)


class GEGLU(nn.Module):
    """A projection whose second half gates the first (Shazeer 2020, eq. 6): a * gelu(b)."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(size, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) → (N, T, F)."""
        # Nothing takes its place (LoRA in training) or works beside it (`adapters.applied`).
        if type(self.proj) is Linear and not self.proj._forward_hooks:
            return gated(F.linear(x, self.proj.weight), self.proj.bias)  # (N, T, F)
        return gated(self.proj(x))  # (N, T, F)


class FeedForward(nn.Module):
    """GEGLU to four times the features and back, for each token by itself."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # Between them diffusers has a dropout that a UNet never uses.
        self.net = nn.ModuleList((GEGLU(size, 4 * size), nn.Identity(), Linear(4 * size, size)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) → (N, T, C)."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            y: Tensor = self.net[2](self.net[0](x))
            return y
        # So many tokens at once that what is between lies in the processor's cache.
        parts = [self.net[2](self.net[0](part)) for part in torch.split(x.flatten(0, 1), _TOGETHER)]
        return torch.cat(parts).view_as(x)


class BasicTransformerBlock(nn.Module):
    """Places look at one another, then at the context, then each is thought over.

    Args:
        size: C.
        heads: of both attentions.
        context_size: D.
    """

    def __init__(self, size: int, heads: int, context_size: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(size)
        self.attn1 = Attention(size, heads, size // heads)
        self.norm2 = LayerNorm(size)
        self.attn2 = Attention(size, heads, size // heads, context_size=context_size)
        self.norm3 = LayerNorm(size)
        self.ff = FeedForward(size)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Of x, (N, T, C), and the context, (N, S, D): (N, T, C).

        Where x has fewer items they are the same for several contexts, and stay so up to here.
        """
        normed = self.norm1(x)  # (N, T, C)
        x = repeated(x + self.attn1.attend(normed, normed), context)
        x = x + self.attn2.attend(self.norm2(x), context)
        y: Tensor = x + self.ff(self.norm3(x))
        return y


class Transformer2DModel(nn.Module):
    """Transformer blocks over the places of a map (Rombach et al. 2022, sec. 3.3), added to it.

    Args:
        channels: C.
        heads: of its attentions.
        context_size: D.
        layers: how many blocks.
        groups: of the normalisation before.
        linear: whether a Linear layer leads in and out, instead of a convolution of size 1.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        context_size: int,
        *,
        layers: int = 1,
        groups: int,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, heads, context_size) for _ in range(layers)
        )
        self.proj_out = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Of x, (N, C, H, W) or fewer items, and the context, (N, S, D): (N, C, H, W)."""
        size = x.shape[2:]
        h = self.norm(x)  # (N, C, H, W)
        tokens = self.proj_in(to_tokens(h)) if self.linear else to_tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)  # (N, T, C)
        x = repeated(x, context)  # (N, C, H, W)
        if self.linear:
            return x + to_map(self.proj_out(tokens), *size)  # (N, C, H, W)
        y: Tensor = x + self.proj_out(to_map(tokens, *size))  # (N, C, H, W)
        return y

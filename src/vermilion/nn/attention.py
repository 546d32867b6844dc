"""Attention. B batch, H heads, G key/value heads, T queries, S keys, D head size, C features."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.nn import fused, looking
from vermilion.nn.dropout import dropout as cheap_dropout
from vermilion.nn.dropout import parts
from vermilion.nn.linear import Linear
from vermilion.nn.norm import RMSNorm
from vermilion.nn.positions import rotate


class Past(Protocol):
    """What came before the tokens of this pass, and how they attend to it and to themselves."""

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> Tensor:
        """Keep the new keys and values, and attend.

        Args:
            layer: number of the layer.
            q: (B, H, T, D).
            k: (B, G, T, D).
            v: (B, G, T, D).
            scale: of q kᵀ; None is 1/sqrt(D).
            window: how many tokens back a query looks, itself included; None: all.

        Returns:
            (B, H, T, D).
        """
        ...


class KeyValueCache:
    """Keys and values of the tokens seen so far, one row a sequence.

    The rows in use are always the first ones, so that the tensors are read as views. Each
    row has a length of its own: no padding is stored and sequences may join and leave.

    Args:
        layers: number of layers.
        rows: most sequences that are held side by side.
        heads: key/value heads G.
        length: most tokens a row can hold.
        head_dim: D.
    """

    def __init__(
        self,
        *,
        layers: int,
        rows: int,
        heads: int,
        length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, rows, heads, length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def length(self) -> int:
        """Most tokens that a row can hold."""
        return self.keys.shape[3]

    @property
    def rows(self) -> int:
        """How many sequences it has room for."""
        return self.keys.shape[1]

    def grow(self, *, rows: int = 0, length: int = 0) -> None:
        """Make room for more rows, or longer ones; what is stored stays."""
        more, extra = max(0, rows - self.rows), max(0, length - self.length)
        if more or extra:
            self.keys = F.pad(self.keys, (0, 0, 0, extra, 0, 0, 0, more))
            self.values = F.pad(self.values, (0, 0, 0, extra, 0, 0, 0, more))

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row to another."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]

    def at(self, positions: Tensor, first_row: int = 0) -> CachedRows:
        """The rows from `first_row` on, about to take tokens at positions (B, T), int64."""
        return CachedRows(self, positions, first_row)


class CachedRows:
    """Rows of a cache for one pass; a `Past`."""

    def __init__(self, cache: KeyValueCache, positions: Tensor, first_row: int) -> None:
        self._cache, self._positions = cache, positions
        batch = torch.arange(len(positions), device=positions.device)[:, None]  # (B, 1)
        self._where = (batch + first_row, slice(None), positions)
        self._rows = slice(first_row, first_row + len(positions))
        seen = torch.arange(int(positions.max()) + 1, device=positions.device)  # (S,)
        self._behind = (positions[:, :, None] - seen)[:, None]  # (B, 1, T, S)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> Tensor:
        """See `Past.attend`."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._where] = k.transpose(1, 2)  # (B, T, G, D)
        values[self._where] = v.transpose(1, 2)  # (B, T, G, D)
        mask = self._behind >= 0  # (B, 1, T, S)
        if window is not None:
            mask &= self._behind < window
        span = mask.shape[-1]
        k, v = keys[self._rows, :, :span], values[self._rows, :, :span]  # (B, G, S, D)
        return grouped_attention(q, k, v, mask, scale)  # (B, H, T, D)


class SelfAttention(nn.Module):
    """Causal multi-head self-attention: each token looks at itself and those before it.

    The equation is `attention`'s. Several query heads may share one key/value head (grouped
    queries, Ainslie et al. 2023). The projections to q, k and v are one matrix: one product
    is faster than three.

    Args:
        size: C.
        heads: H, a multiple of kv_heads.
        kv_heads: G.
        head_dim: D.
        qkv_bias: whether the projections to q, k, v have a bias.
        out_bias: whether the output projection has one.
        qk_norm: whether each head's query and key are normalised (Henry et al. 2020).
        norm_eps: of that normalisation.
        scale: of q·k; None: 1/sqrt(D).
        window: how many tokens back a token looks, itself included; None: all.
        dropout: probability that a weight of attention is dropped in training.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qk_norm: bool = False,
        norm_eps: float = 1e-6,
        scale: float | None = None,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.scale, self.window, self.dropout = scale, window, dropout
        self.qkv = Linear(size, (heads + 2 * kv_heads) * head_dim, bias=qkv_bias)
        self.q_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.out = Linear(heads * head_dim, size, bias=out_bias)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None = None,
        *,
        past: Past | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Attend from x, (B, T, C), to itself and to what came before, giving (B, T, C).

        Args:
            x: features of the new tokens.
            angles: of the rotary embedding at their positions; None: nothing is turned.
            past: what came before them; None: nothing did, and each token looks at those
                before it in x.
            layer: number of this layer in `past`.
        """
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, self.heads + 2 * self.kv_heads, self.head_dim)
        q, k, v = qkv.transpose(1, 2).split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        q, k = self.q_norm(q), self.k_norm(k)  # (B, H, T, D), (B, G, T, D)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if past is not None:
            y = past.attend(layer, q, k, v, scale=self.scale, window=self.window)  # (B, H, T, D)
        else:
            dropout = self.dropout if self.training else 0.0
            mask = None
            if self.window is not None and self.window < tokens:
                mask = causal_mask(tokens, tokens, self.window, x.device)  # (T, T)
            y = attention(
                q, k, v, mask=mask, causal=mask is None, scale=self.scale, dropout=dropout
            )  # (B, H, T, D)
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, tokens, -1))  # (B, T, C)
        return out


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, sec. 3.2.2), in both directions or across.

        concat(head_1 .. head_H) W_out,  head_h = attention(x W_q, c W_k, c W_v)

    Where c is x itself it is self-attention: an encoder's, or with `causal` a text tower's.
    Where c is another sequence it is cross-attention: a picture that looks at its caption.

    Args:
        size: C of x and of the result.
        heads: H.
        context_size: features of c; None: c is x.
        head_dim: D; None: C/H.
        bias: whether the projections to q, k, v have a bias.
        out_bias: whether the output projection has one.
        dropout: probability that a weight of attention is dropped in training.

    Raises:
        ValueError: C is no multiple of H and no head_dim is given.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        *,
        context_size: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        out_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head_dim is None and size % heads:
            raise ValueError(f"heads: {size} features are no multiple of {heads}")
        self.heads, self.dropout = heads, dropout
        self.head_dim = size // heads if head_dim is None else head_dim
        inner = heads * self.head_dim
        if context_size is None:
            self.qkv = Linear(size, 3 * inner, bias=bias)
        else:
            self.q = Linear(size, inner, bias=bias)
            self.kv = Linear(context_size, 2 * inner, bias=bias)
        self.out = Linear(inner, size, bias=out_bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from x, (B, T, C), giving (B, T, C).

        Args:
            x: what looks.
            context: what is looked at, (B, S, context_size); None: x.
            mask: True where a key is no padding, (B, S); each sequence has one at least.
            causal: whether a query looks at keys up to its own place only.
        """
        if context is None:
            q, k, v = self._split(self.qkv(x), 3)
        else:
            (q,) = self._split(self.q(x), 1)  # (B, H, T, D)
            k, v = self._split(self.kv(context), 2)  # (B, H, S, D)
        seen = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, S)
        if seen is not None and causal:
            seen = seen & causal_mask(q.shape[2], k.shape[2], None, x.device)  # (B, 1, T, S)
        dropout = self.dropout if self.training else 0.0
        y = attention(q, k, v, mask=seen, causal=causal and seen is None, dropout=dropout)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return out

    def _split(self, features: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, T, parts*H*D) → parts times (B, H, T, D)."""
        batch, tokens, _ = features.shape
        heads = features.view(batch, tokens, parts * self.heads, self.head_dim).transpose(1, 2)
        return heads.chunk(parts, dim=1)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).

        softmax(q kᵀ / sqrt(D)) v

    Args:
        q: (B, H, T, D).
        k: (B, G, S, D); each key head serves H/G query heads in turn.
        v: (B, G, S, D).
        mask: True where a query may look, broadcast to (B, H, T, S); None: everywhere.
        causal: whether query t looks at keys 0 .. t only; not together with a mask.
        scale: of q kᵀ; None: 1/sqrt(D).
        dropout: probability that a weight is dropped.

    Returns:
        (B, H, T, D).
    """
    size = q.shape[-1] ** -0.5 if scale is None else scale
    dropped = parts(dropout)
    if causal and dropped is not None and q.shape[2] == k.shape[2] and fused.usable(q, k, v):
        return fused.causal_attention(q, k, v, size, dropped)
    if dropout > 0 and q.device.type == "cpu":
        return _dropped_attention(q, k, v, mask, causal, size, dropout)
    if mask is None and not causal and dropout == 0 and looking.usable(q, k, v):
        return looking.attend(q, k, v, size)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        dropout_p=dropout,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _dropped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
    p: float,
) -> Tensor:
    """`attention` with cheap dropout, for a CPU, whose fused attention has none."""
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    if causal:
        mask = causal_mask(q.shape[2], k.shape[2], None, q.device)  # (T, S)
    scores = q * scale @ k.mT  # (B, H, T, S)
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
    return cheap_dropout(scores.softmax(-1), p, training=True) @ v  # (B, H, T, D)


def causal_mask(queries: int, keys: int, window: int | None, device: torch.device | str) -> Tensor:
    """True where query t may look at key s: s <= t, and t - s < window. (T, S), bool."""
    behind = torch.arange(queries, device=device)[:, None] - torch.arange(keys, device=device)
    mask = behind >= 0
    return mask if window is None else mask & (behind < window)


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """Attention of H query heads over G key/value heads without copying keys or values.

    The H/G query heads that share a key head are laid behind one another as if they were
    further queries of that head.

    Args:
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, D).
        mask: True where a query may look, (B, 1, T, S).
        scale: of q kᵀ; None is 1/sqrt(D).

    Returns:
        (B, H, T, D).
    """
    batch, heads, tokens, size = q.shape
    groups = k.shape[1]
    q = q.reshape(batch, groups, heads // groups * tokens, size)  # (B, G, H/G*T, D)
    mask = mask.repeat(1, 1, heads // groups, 1)  # (B, 1, H/G*T, S)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)  # (B, G, H/G*T, D)
    return y.view(batch, heads, tokens, size)

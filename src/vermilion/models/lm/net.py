"""The Llama network (Touvron et al. 2023): RMSNorm, rotary positions, grouped queries, SwiGLU.

B batch, T tokens, S tokens in the cache, C hidden size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.models.lm.config import LMConfig
from vermilion.nn.attention import KeyValueCache, Past, SelfAttention
from vermilion.nn.linear import Embedding, Linear
from vermilion.nn.norm import RMSNorm
from vermilion.nn.positions import Rotary


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, eq. 6): down(silu(gate(x)) * up(x)); gate and up are one matrix."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.gate_up = Linear(size, 2 * inner, bias=False)
        self.down = Linear(inner, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, F) each
        y: Tensor = self.down(F.silu(gate) * up)  # (B, T, C)
        return y


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the stream."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = SelfAttention(
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias and config.architecture == "LlamaForCausalLM",
        )
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, **where: Any) -> Tensor:
        """(B, T, C) → (B, T, C); `where` goes to the attention."""
        x = x + self.attention(self.attention_norm(x), **where)  # (B, T, C)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))  # (B, T, C)
        return y


class LM(nn.Module):
    """A decoder-only language model: token ids in, logits of the next token out.

    Args:
        config: its sizes.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.rotary = Rotary(config.head_dim, config.rope_theta, config.rope_scaling)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        past: Past | None = None,
        last: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token that follows each token.

        Args:
            ids: (B, T), int64.
            positions: of these tokens in their sequences, (B, T), int64; None: from 0 on.
            past: what came before them, see `nn.attention.Past`; None: nothing did.
            last: numbers of the tokens whose logits are wanted, counted through the batch,
                (N,), int64; None: all. Saves large products.

        Returns:
            (B, T, V), or (N, V) with `last`; float32.
        """
        hidden = self.features(ids, positions=positions, past=past, last=last)
        logits: Tensor = self.head(hidden)  # (B, T, V) or (N, V)
        return logits.float()

    def features(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        past: Past | None = None,
        last: Tensor | None = None,
    ) -> Tensor:
        """What the output layer is given, (B, T, C), or (N, C) with `last`; see `forward`."""
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)  # (B, T)
        angles = self.rotary.angles(positions)  # (B, 1, T, D) twice
        x = self.embedding(ids)  # (B, T, C)
        for layer, block in enumerate(self.blocks):
            x = block(x, angles=angles, past=past, layer=layer)  # (B, T, C)
        if last is not None:
            x = x.flatten(0, 1)[last]  # (N, C)
        normed: Tensor = self.norm(x)  # (B, T, C) or (N, C)
        return normed

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        """An empty cache for `rows` sequences of at most `length` tokens."""
        weight = self.embedding.weight
        return KeyValueCache(
            layers=self.config.num_hidden_layers,
            rows=rows,
            heads=self.config.num_key_value_heads,
            length=length,
            head_dim=self.config.head_dim,
            dtype=weight.dtype,
            device=weight.device,
        )

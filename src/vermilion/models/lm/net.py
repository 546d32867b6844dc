"""A Transformer language model, decoder only: each token sees those before it, and a
distribution over the next one comes out (Vaswani et al. 2017; Radford et al. 2019).

    x = E[ids]                                 an embedding a token
    x = x + attention(norm(x))                 tokens look at earlier tokens   } in every
    x = x + feed_forward(norm(x))              each token is thought over      } block
    logits = W norm(x)                         how likely each token is next

One network serves all families; they differ in the fields of `LMConfig`: GPT-2 and GPT-Neo
(LayerNorm, learned positions, GELU, biases), Llama, Mistral, Qwen (RMSNorm, rotary positions,
grouped queries, SwiGLU).

B batch, T tokens, N chosen tokens, C hidden size, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vermilion.models.lm.config import LMConfig
from vermilion.nn.attention import KeyValueCache, Past, SelfAttention
from vermilion.nn.dropout import dropout
from vermilion.nn.feed_forward import FeedForward
from vermilion.nn.linear import Embedding, Linear
from vermilion.nn.norm import LayerNorm, RMSNorm
from vermilion.nn.positions import LearnedPositions, Rotary

NORMS = {"rms": RMSNorm, "layer": LayerNorm}


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the stream.

    Args:
        config: of the network.
        layer: its number, from 0.
    """

    def __init__(self, config: LMConfig, layer: int) -> None:
        super().__init__()
        norm, size = NORMS[config.norm], config.hidden_size
        self.layer, self.dropout = layer, config.dropout
        self.attention_norm = norm(size, config.norm_eps)
        self.attention = SelfAttention(
            size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            qkv_bias=config.qkv_bias,
            out_bias=config.out_bias,
            qk_norm=config.qk_norm,
            norm_eps=config.norm_eps,
            scale=config.attention_scale,
            window=config.window(layer),
            dropout=config.dropout,
        )
        self.feed_forward_norm = norm(size, config.norm_eps)
        self.feed_forward = FeedForward(
            size,
            config.intermediate_size,
            activation=config.activation,
            gated=config.gated,
            bias=config.mlp_bias,
        )

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None = None, past: Past | None = None
    ) -> Tensor:
        """(B, T, C) → (B, T, C); see `SelfAttention.forward`."""
        seen = self.attention(self.attention_norm(x), angles, past=past, layer=self.layer)
        x = x + dropout(seen, self.dropout, self.training)  # (B, T, C)
        thought = self.feed_forward(self.feed_forward_norm(x))  # (B, T, C)
        return x + dropout(thought, self.dropout, self.training)  # (B, T, C)


class LM(nn.Module):
    """A language model: token ids in, logits of the next token out.

    Args:
        config: what it is made of.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.rotary: Rotary | None = None
        self.positions: LearnedPositions | None = None
        if config.positions == "rotary":
            self.rotary = Rotary(config.head_dim, config.rope_theta, config.rope_scaling)
        else:
            self.positions = LearnedPositions(config.max_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = NORMS[config.norm](config.hidden_size, config.norm_eps)
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
        x = self.embedding(ids)  # (B, T, C)
        if self.positions is not None:
            x = x + self.positions(positions)  # (B, T, C)
        angles = None if self.rotary is None else self.rotary.angles(positions)
        x = dropout(x, self.config.dropout, self.training)  # (B, T, C)
        for block in self.blocks:
            x = block(x, angles, past)  # (B, T, C)
        if last is not None:
            x = x.flatten(0, 1)[last]  # (N, C)
        normed: Tensor = self.norm(x)  # (B, T, C) or (N, C)
        return normed

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw the first weights of a network that is to be trained, by GPT-2's rule.

        Matrices come from a normal distribution of standard deviation 0.02. What adds to the
        stream is smaller by sqrt(2 num_hidden_layers), so that the sum over all layers is as
        large as one (Radford et al. 2019, sec. 2.3). Biases are 0, norms 1.

        Args:
            seed: the same seed gives the same weights, on every device.
        """
        draw = torch.Generator().manual_seed(seed)
        smaller = 1 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.dim() == 1:
                weight.fill_(1.0)
            else:
                adds = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
                drawn = torch.empty(weight.shape).normal_(0.0, 0.02, generator=draw)
                weight.copy_(drawn * smaller if adds else drawn)

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

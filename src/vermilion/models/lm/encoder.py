"""BERT's network (Devlin et al. 2019): every token looks at every other, and a vector for each
comes out.

    x = norm(E[ids] + P[positions] + S[0])     embeddings of tokens, positions and the segment
    x = norm(x + attention(x))                 } in every block; what a block adds is
    x = norm(x + feed_forward(x))              } normalised after, not before as in `net`

B batch, T tokens, C hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vermilion.errors import ModelError
from vermilion.models.lm.config import check_size
from vermilion.nn.attention import MultiHeadAttention
from vermilion.nn.feed_forward import ACTIVATIONS, FeedForward
from vermilion.nn.linear import Embedding
from vermilion.nn.norm import LayerNorm
from vermilion.nn.positions import LearnedPositions

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Sizes of an encoder, in the words of transformers' config.json.

    Raises:
        ValueError: a size that is no whole number above 0, or sizes that do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_size(name, getattr(self, name))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size: must be a multiple of num_attention_heads")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act: {self.hidden_act!r} is not one of {list(ACTIVATIONS)}")

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> EncoderConfig:
        """Read a parsed config.json.

        Raises:
            ModelError: it is none of a BERT, or a field is missing or cannot be used.
        """
        kind = config.get("model_type")
        if kind != "bert" or config.get("is_decoder", False):
            raise ModelError(f"config.json: model_type: {kind!r} is no encoder; known is bert")
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise ModelError("config.json: position_embedding_type: only absolute is supported")
        try:
            given = {name: config[name] for name in _SIZES if name != "type_vocab_size"}
            return cls(
                **given,
                type_vocab_size=config.get("type_vocab_size", 2),
                layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
                hidden_act=config.get("hidden_act", "gelu"),
            )
        except KeyError as error:
            raise ModelError(f"config.json: the field {error.args[0]!r} is missing") from None
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"config.json: a field cannot be used: {error}") from None


class Block(nn.Module):
    """Attention and feed-forward, each added to the stream, which is normalised after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention = MultiHeadAttention(size, config.num_attention_heads)
        self.attention_norm = LayerNorm(size, eps)
        self.feed_forward = FeedForward(
            size, config.intermediate_size, activation=config.hidden_act
        )
        self.feed_forward_norm = LayerNorm(size, eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C); `mask` is True where there is a token, (B, T)."""
        x = self.attention_norm(x + self.attention(x, mask=mask))  # (B, T, C)
        y: Tensor = self.feed_forward_norm(x + self.feed_forward(x))  # (B, T, C)
        return y


class EncoderNet(nn.Module):
    """The network. Texts are of the first segment.

    Args:
        config: its sizes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.embedding = Embedding(config.vocab_size, size)
        self.positions = LearnedPositions(config.max_position_embeddings, size)
        self.token_types = Embedding(config.type_vocab_size, size)
        self.norm = LayerNorm(size, config.layer_norm_eps)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """A vector for each token.

        Args:
            ids: (B, T), int64.
            mask: True where there is a token and no padding, (B, T).

        Returns:
            (B, T, C); without meaning where there is padding.
        """
        positions = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        x: Tensor = self.embedding(ids) + self.positions(positions)  # (B, T, C)
        x = self.norm(x + self.token_types.weight[0])  # (B, T, C)
        for block in self.blocks:
            x = block(x, mask)  # (B, T, C)
        return x

"""The blocks of both towers (Dosovitskiy et al. 2021, eq. 2, 3), with transformers' names.

    x = x + attention(norm(x))        } patches look in both directions,
    x = x + feed_forward(norm(x))     } texts back only

N items, T tokens, H heads, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vermilion.models.contrast.config import TowerConfig
from vermilion.nn.attention import attention
from vermilion.nn.feed_forward import ACTIVATIONS
from vermilion.nn.linear import Linear
from vermilion.nn.norm import LayerNorm


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, sec. 3.2.2)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = Linear(size, size)
        self.k_proj = Linear(size, size)
        self.v_proj = Linear(size, size)
        self.out_proj = Linear(size, size)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(N, T, D) → (N, T, D); with `causal` a token looks at itself and those before it."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, H, T, D/H)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        y: Tensor = self.out_proj(attention(q, k, v, causal=causal).transpose(1, 2).flatten(2))
        return y  # (N, T, D)


class FeedForward(nn.Module):
    """fc2(f(fc1(x))) for each token by itself (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        y: Tensor = self.fc2(self.activation(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and feed-forward, each added to the stream from a normalised copy of it."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        x = x + self.self_attn(self.layer_norm1(x), causal)
        y: Tensor = x + self.mlp(self.layer_norm2(x))
        return y


class Blocks(nn.Module):
    """All blocks of a tower."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, *, causal: bool, skip: int = 0) -> Tensor:
        """(N, T, D) → (N, T, D), without the last `skip` blocks."""
        for layer in self.layers[: len(self.layers) - skip]:
            x = layer(x, causal)
        return x


@torch.no_grad()
def draw_first_weights(tower: nn.Module, config: TowerConfig) -> None:
    """Draw first weights as CLIP's code does: what a block adds shrinks with the depth."""
    if any(weight.is_meta for weight in tower.parameters()):
        return
    size = config.hidden_size
    within = size**-0.5 * (2 * config.num_hidden_layers) ** -0.5
    deviations = {
        "q_proj": within,
        "k_proj": within,
        "v_proj": within,
        "out_proj": size**-0.5,
        "fc1": (2 * size) ** -0.5,
        "fc2": within,
        "token_embedding": 0.02,
        "position_embedding": 0.02,
        "patch_embedding": 0.02,
        "class_embedding": size**-0.5,
    }
    for name, weight in tower.named_parameters():
        *_, module, kind = ("", *name.split("."))
        deviation = deviations.get(module, deviations.get(kind))
        if deviation is not None and kind != "bias":
            weight.normal_(std=deviation)
        elif deviation is not None:
            weight.zero_()

"""DiT: a Transformer in place of the UNet (Peebles & Xie 2023).

    x = W patches + positions
    x = x + g1 * attention(s1 norm(x) + b1)          s, b, g = W silu(e): adaLN-Zero, fig. 3;
    x = x + attention(norm(x), text)                 the line for text as in Chen et al. 2023
    x = x + g2 * feed_forward(s2 norm(x) + b2)
    patches = W (s norm(x) + b)

With `label_map_dim` a vector that says what is to be seen is also spread out: every place gets its
own share of it, and a first draft of the picture is read off these alone. What a caption's picture
looks like in the mean is then learnt by two products, and the blocks learn what is left to say.

    m = W silu(W label)                              (T, F): for each place its own
    x = x + m at the beginning; patches = patches + W m at the end

Its weights are those of diffusers' DiTTransformer2DModel, but for the embedding of time and class:
there each block has its own copy, here there is one, as in the paper. With text or a pooled vector
it is a network that diffusers has no class for.

N items, C channels, H W height and width, P side of a patch, T = H W / P² tokens, F features of
one, S tokens of the context, D features of such a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import InputError
from vermilion.models.diffusion.blocks import (
    TimestepEmbedding,
    clear,
    draw_weights,
    time_encoding,
)
from vermilion.models.diffusion.fields import (
    check_choice,
    check_sizes,
    known_fields,
    written_fields,
)
from vermilion.models.diffusion.transformer import Attention, to_tokens
from vermilion.nn.linear import Conv2d, Embedding, Linear, VectorLinear
from vermilion.nn.norm import LayerNorm

THEIRS, OURS = "DiTTransformer2DModel", "VermilionDiT"
_WAVES = 256
_EPS = 1e-6
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "dropout": (0.0,),
    "norm_elementwise_affine": (False,),
    "norm_num_groups": (32,),
    "norm_type": ("ada_norm_zero",),
    "upcast_attention": (False,),
}
_OF_OURS = ("cross_attention_dim", "projection_class_embeddings_input_dim", "label_map_dim")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """What a DiT is made of, in the words of diffusers' DiTTransformer2DModel.

    Attributes:
        sample_size: side of what it was trained on; positions are stretched to others.
        patch_size: P.
        in_channels: of the noisy picture.
        out_channels: of the prediction; None: as many.
        num_layers: blocks.
        num_attention_heads: heads.
        attention_head_dim: features of a head; F is so many times the heads, a multiple of 4.
        num_embeds_ada_norm: classes; the label after the last stands for none. None: it is told
            no class.
        norm_eps: what the norm before the feed-forward layer adds to the variance.
        cross_attention_dim: D; None: it reads no text.
        projection_class_embeddings_input_dim: features of a label that is a vector.
        label_map_dim: features between the two products that spread such a label over the places;
            None: it is not spread.

    Raises:
        ValueError: values that there are not or that do not fit together; it names the field.
    """

    sample_size: int = 32
    patch_size: int = 2
    in_channels: int = 4
    out_channels: int | None = None
    num_layers: int = 28
    num_attention_heads: int = 16
    attention_head_dim: int = 72
    num_embeds_ada_norm: int | None = 1000
    norm_eps: float = 1e-5
    cross_attention_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    label_map_dim: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "norm_eps" and not (value is None and "None" in str(field.type)):
                check_sizes(field.name, value)
        if self.features % 4:
            raise ValueError("attention_head_dim: heads and it have to make a multiple of 4")
        if self.num_embeds_ada_norm and self.projection_class_embeddings_input_dim:
            raise ValueError("num_embeds_ada_norm: a label is a class or a vector, not both")
        if self.label_map_dim and self.projection_class_embeddings_input_dim is None:
            raise ValueError(
                "label_map_dim: only a label that is a vector can be spread; set"
                " projection_class_embeddings_input_dim too"
            )

    @property
    def features(self) -> int:
        """F."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def class_name(self) -> str:
        """Of diffusers' class that opens it, or ours."""
        theirs = self.num_embeds_ada_norm is not None and self.cross_attention_dim is None
        return THEIRS if theirs else OURS

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> Self:
        """The shape that a parsed config.json describes; errors as of `UNetConfig`."""
        name: Any = config.get("_class_name")
        check_choice("_class_name", name, (THEIRS, OURS))
        known = {field.name for field in fields(cls)}
        return cls(**known_fields(config, known - set(_OF_OURS if name == THEIRS else ()), _ONLY))

    def to_diffusers(self) -> dict[str, Any]:
        """Its config.json."""
        left_out = _OF_OURS if self.class_name == THEIRS else ()
        return written_fields(self, self.class_name, left_out)


class AdaLayerNormZero(nn.Module):
    """What time and class make of a block: six vectors (Peebles & Xie 2023, sec. 3.2)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = VectorLinear(features, 6 * features)

    def forward(self, e: Tensor) -> tuple[Tensor, ...]:
        """Of e, (N, F), after its SiLU: shift, scale and gate, twice, (N, 1, F) each."""
        return self.linear(e)[:, None].chunk(6, dim=-1)  # type: ignore[no-any-return]


class _GELU(nn.Module):
    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(size, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class _FeedForward(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.net = nn.ModuleList((_GELU(size, 4 * size), nn.Identity(), Linear(4 * size, size)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net[2](self.net[0](x))
        return y


class DiTBlock(nn.Module):
    """Attention and a feed-forward layer, whose norms and shares follow from time and class."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        size, heads = config.features, config.num_attention_heads
        head_dim = config.attention_head_dim
        self.eps = config.norm_eps
        self.norm1 = AdaLayerNormZero(size)
        self.attn1 = Attention(size, heads, head_dim, bias=True)
        self.attn2: Attention | None = None
        if config.cross_attention_dim is not None:
            self.norm2 = LayerNorm(size)
            self.attn2 = Attention(
                size, heads, head_dim, context_size=config.cross_attention_dim, bias=True
            )
        self.ff = _FeedForward(size)

    def forward(self, x: Tensor, e: Tensor, context: Tensor | None) -> Tensor:
        """Of x, (N, T, F), with e, (N, F), and the context, (N, S, D): (N, T, F)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.norm1(e)  # (N, 1, F) each
        h = torch.addcmul(shift1, _normed(x, _EPS), 1 + scale1)  # (N, T, F)
        x = torch.addcmul(x, gate1, self.attn1.attend(h, h))
        if self.attn2 is not None and context is not None:
            x = x + self.attn2.attend(self.norm2(x), context)  # (N, T, F)
        h = torch.addcmul(shift2, _normed(x, self.eps), 1 + scale2)
        return torch.addcmul(x, gate2, self.ff(h))  # (N, T, F)


class _Patches(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        side = config.patch_size
        self.proj = Conv2d(config.in_channels, config.features, side, stride=side)


class LabelMap(nn.Module):
    """A label for each place, and the draft that it makes.

    Args:
        size: features of a label.
        inner: features between the products.
        config: of the network.
    """

    def __init__(self, size: int, inner: int, config: DiTConfig) -> None:
        super().__init__()
        self.side = config.sample_size // config.patch_size
        self.features = config.features
        out = config.out_channels or config.in_channels
        self.linear_1 = VectorLinear(size, inner)
        self.linear_2 = VectorLinear(inner, self.side**2 * self.features)
        self.draft = Linear(self.features, config.patch_size**2 * out)

    def forward(self, labels: Tensor, height: int, width: int) -> Tensor:
        """(N, D) → (N, T, F), for so many rows and columns of places."""
        m = self.linear_2(F.silu(self.linear_1(labels)))  # (N, T F)
        m = m.view(len(m), self.side, self.side, -1)  # (N, side, side, F)
        if (height, width) != (self.side, self.side):
            m = F.interpolate(
                m.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False
            ).permute(0, 2, 3, 1)  # (N, H/P, W/P, F)
        y: Tensor = m.flatten(1, 2)  # (N, T, F)
        return y


class DiT(nn.Module):
    """A noisy picture and a time in, a prediction of the same height and width out.

    Args:
        config: what it is made of.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        size, pooled = config.features, config.projection_class_embeddings_input_dim
        self.pos_embed = _Patches(config)
        self.time_embedding = TimestepEmbedding(_WAVES, size)
        self.class_embedding: nn.Module | None = None
        if config.num_embeds_ada_norm is not None:
            self.class_embedding = Embedding(config.num_embeds_ada_norm + 1, size)
        elif pooled is not None:
            self.class_embedding = TimestepEmbedding(pooled, size)
        self.label_map: LabelMap | None = None
        if config.label_map_dim is not None and pooled is not None:
            self.label_map = LabelMap(pooled, config.label_map_dim, config)
        self.transformer_blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.num_layers))
        self.proj_out_1 = VectorLinear(size, 2 * size)
        out = config.out_channels or config.in_channels
        self.proj_out_2 = Linear(size, config.patch_size**2 * out)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """What it predicts for x at the times t.

        Args:
            x: noisy pictures, (N, in_channels, H, W), sides multiples of P.
            t: their times, (N,), int64 or float32.
            context: (N, S, D); None where the network reads none.
            labels: classes (N,), int64, or vectors; None where the network is told none.

        Returns:
            (N, out_channels, H, W).

        Raises:
            InputError: a context or labels are missing, or given to a network without.
        """
        if (self.config.cross_attention_dim is None) != (context is None):
            raise InputError("context: is for a network that reads text, which needs it")
        if (self.class_embedding is None) != (labels is None):
            raise InputError("labels: are for a network that is told a class, which needs them")
        side = self.config.patch_size
        height, width = x.shape[2] // side, x.shape[3] // side
        e = self.time_embedding(time_encoding(t, _WAVES, freq_shift=1).to(x.dtype))  # (N, F)
        if self.class_embedding is not None:
            e = e + self.class_embedding(labels)
        e = F.silu(e)
        h = to_tokens(self.pos_embed.proj(x)) + self._positions(height, width, x)  # (N, T, F)
        m = None if self.label_map is None else self.label_map(labels, height, width)  # (N, T, F)
        h = h if m is None else h + m
        for block in self.transformer_blocks:
            h = block(h, e, context)
        shift, scale = self.proj_out_1(e)[:, None].chunk(2, dim=-1)  # (N, 1, F) each
        h = self.proj_out_2(torch.addcmul(shift, _normed(h, _EPS), 1 + scale))  # (N, T, P²C)
        if self.label_map is not None:
            h = h + self.label_map.draft(m)
        patches = h.view(len(x), height, width, side, side, -1)
        y: Tensor = patches.permute(0, 5, 1, 3, 2, 4)  # (N, C, H/P, P, W/P, P)
        return y.reshape(len(x), -1, height * side, width * side)

    def _positions(self, height: int, width: int, like: Tensor) -> Tensor:
        """Sines and cosines of column and row, (T, F), stretched to the size of training."""
        base, quarter = self.config.sample_size // self.config.patch_size, self.config.features // 4
        steps = torch.arange(quarter, dtype=torch.float64, device=like.device)
        rates = 10000 ** -(steps / quarter)  # (F/4,)
        rows = torch.arange(height, device=like.device) * (base / height)  # (H/P,)
        columns = torch.arange(width, device=like.device) * (base / width)  # (W/P,)
        across = columns[:, None] * rates  # (W/P, F/4)
        down = rows[:, None] * rates  # (H/P, F/4)
        across = torch.cat((across.sin(), across.cos()), dim=-1).expand(height, -1, -1)
        down = torch.cat((down.sin(), down.cos()), dim=-1)[:, None].expand(-1, width, -1)
        return torch.cat((across, down), dim=-1).flatten(0, 1).to(like.dtype)

    def init_weights(self, seed: int) -> None:
        """Draw the first weights; every gate and the result are 0 at first (adaLN-Zero)."""
        draw_weights(self, seed)
        for block in self.modules():
            if isinstance(block, DiTBlock):
                clear(block.norm1.linear)
                if block.attn2 is not None:
                    clear(block.attn2.to_out)
        clear(self.proj_out_1)
        clear(self.proj_out_2)
        if self.label_map is not None:
            clear(self.label_map.draft)

    def working_bytes(self, n: int, height: int, width: int) -> int:
        """About how much memory a pass takes beside the weights, without gradients."""
        places = height * width // self.config.patch_size**2
        return n * places * self.config.features * 8 * self.proj_out_1.weight.element_size()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.proj_out_1.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of x."""
        return self.proj_out_1.weight.dtype


def _normed(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)

"""The parts of a UNet and of an autoencoder, under the names that diffusers gives their weights.

N items, C channels, H W height and width, T = H W places, S tokens of the context, D features of
such a token, E features of the embedding of time.

Feature maps lie in memory with the channels last: convolutions need no rearranging, and attention
reads a map as tokens without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.models.diffusion.transformer import (
    SpatialAttention,
    Transformer2DModel,
    repeated,
    to_map,
    to_tokens,
)
from vermilion.nn.convolution import Conv2d
from vermilion.nn.dropout import dropout
from vermilion.nn.linear import VectorLinear
from vermilion.nn.maps import GroupNorm
from vermilion.nn.norm import LayerNorm

_ALL = slice(None)


def time_encoding(
    t: Tensor, size: int, *, flip_sin_to_cos: bool = True, freq_shift: int = 0
) -> Tensor:
    """Sines and cosines of a time (Ho et al. 2020, app. B): (N,) → (N, size), float32.

        (cos(w_i t) .. , sin(w_i t) ..),  w_i = 10000^(-i / (size/2 - freq_shift))

    Args:
        t: any numbers, whole or not.
        size: even.
        flip_sin_to_cos: whether the cosines stand first.
        freq_shift: see above.
    """
    half = size // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)  # (size/2,)
    phase = t.float()[:, None] * torch.exp(-math.log(10000) * steps / (half - freq_shift))
    waves = (phase.cos(), phase.sin()) if flip_sin_to_cos else (phase.sin(), phase.cos())
    return torch.cat(waves, dim=-1)  # (N, size)


class TimestepEmbedding(nn.Module):
    """Two products with a SiLU between: what the network makes of a time or another vector.

    Args:
        size: features that come in.
        features: E.
    """

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.linear_1 = VectorLinear(size, features)
        self.linear_2 = VectorLinear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, size) → (N, E)."""
        y: Tensor = self.linear_2(F.silu(self.linear_1(x)))  # (N, E)
        return y


class ResnetBlock2D(nn.Module):
    """Residual block (He et al. 2016) that knows the time (Ho et al. 2020, app. B).

        x + conv(silu(norm(conv(silu(norm(x))) + W e)))          "default"
        x + conv(silu((1 + s) norm(conv(silu(norm(x)))) + b))    "scale_shift"; s, b = W e

    The second is Dhariwal & Nichol 2021, sec. 3.

    Args:
        channels: C that come in.
        out_channels: that go out; where they differ x passes through a convolution of size 1.
        groups: of the normalisations.
        eps: of the normalisations.
        time_features: E; None: there is no time, as in an autoencoder.
        scale_shift: whether time also scales.
        dropped: probability that a feature is dropped in training.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        groups: int,
        eps: float,
        time_features: int | None = None,
        scale_shift: bool = False,
        dropped: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale_shift, self.dropped = scale_shift, dropped
        self.norm1 = GroupNorm(groups, channels, eps)
        self.conv1 = Conv2d(channels, out_channels, 3, padding=1)
        if time_features is not None:
            self.time_emb_proj = VectorLinear(time_features, (1 + scale_shift) * out_channels)
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = (
            Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(N, C, H, W) → (N, out_channels, H, W).

        Args:
            x: the features.
            embedding: of time, after the SiLU that all blocks begin with, (N, E), or of further
                items too, which are not read.
        """
        embedding = None if embedding is None else embedding[: len(x)]  # (N, E)
        h = self.conv1(self.norm1(x, silu=True))  # (N, C, H, W)
        told = None if embedding is None else self.time_emb_proj(embedding)  # (N, C or 2C)
        if told is not None and not self.scale_shift:
            h, told = h.add_(told[:, :, None, None]), None
        h = self.norm2(h, silu=True, told=told)  # (N, C, H, W)
        if self.training and self.dropped > 0:  # on tokens, whose memory is in one piece
            tokens = dropout(to_tokens(h), self.dropped, training=True)  # (N, T, C)
            h = to_map(tokens, *h.shape[2:])
        y: Tensor = self.conv2(h).add_(self.conv_shortcut(x))  # (N, C, H, W)
        return y


class Downsample2D(nn.Module):
    """A convolution that halves height and width.

    Args:
        channels: C.
        padding: 1; or 0, a row and a column at the end alone.
    """

    def __init__(self, channels: int, padding: int = 1) -> None:
        super().__init__()
        self.padding = padding
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H/2, W/2)."""
        y: Tensor = self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))
        return y


class Upsample2D(nn.Module):
    """Each place becomes four, and a convolution smooths them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """(N, C, H, W) → (N, C, 2H, 2W), or of another height and width that are given."""
        if size is None or list(size) == [2 * side for side in x.shape[2:]]:
            y: Tensor = self.conv(x, scale=2)
        else:
            y = self.conv(F.interpolate(x, size=list(size), mode="nearest"))
        return y


class DownBlock(nn.Module):
    """A level on the way down: residual blocks, each with attention after it or none with.

    Args:
        resnets: the residual blocks.
        attentions: as many, or none.
        downsample: what halves the map at the end, if anything does.
    """

    def __init__(
        self,
        resnets: Sequence[ResnetBlock2D],
        attentions: Sequence[nn.Module] = (),
        downsample: Downsample2D | None = None,
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.downsamplers = nn.ModuleList([] if downsample is None else [downsample])

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None
    ) -> list[Tensor]:
        """(N, C, H, W) → what each of its parts gave, the last of which goes on."""
        made: list[Tensor] = []
        for number, resnet in enumerate(self.resnets):
            x = resnet(x, embedding)  # (N, C, H, W)
            x = self.attentions[number](x, context) if self.attentions else x
            made.append(x)
        made += [downsample(x) for downsample in self.downsamplers]  # (N, C, H/2, W/2)
        return made


class MidBlock(nn.Module):
    """The middle: residual blocks, with attention between them."""

    def __init__(
        self, resnets: Sequence[ResnetBlock2D], attentions: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        for number, resnet in enumerate(self.resnets):
            if number > 0 and self.attentions:
                x = self.attentions[number - 1](x, context)  # (N, C, H, W)
            x = resnet(x, embedding)  # (N, C, H, W)
        return x


class UpBlock(nn.Module):
    """A level on the way up: each residual block is also given what the way down made there."""

    def __init__(
        self,
        resnets: Sequence[ResnetBlock2D],
        attentions: Sequence[nn.Module] = (),
        upsample: Upsample2D | None = None,
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.upsamplers = nn.ModuleList([] if upsample is None else [upsample])

    def forward(
        self,
        x: Tensor,
        embedding: Tensor | None = None,
        context: Tensor | None = None,
        skips: list[Tensor] | None = None,
        layers: slice = _ALL,
    ) -> Tensor:
        """(N, C, H, W) → (N, C, 2H, 2W), or where it does not double, (N, C, H, W).

        Args:
            x: the features.
            embedding: of time, (N, E).
            context: (N, S, D).
            skips: what the way down made; its own part is taken from the end. An autoencoder
                has none.
            layers: which of the residual blocks are computed now.
        """
        for number in range(*layers.indices(len(self.resnets))):
            resnet = self.resnets[number]
            if skips is not None:
                x = torch.cat((x, repeated(skips.pop(), x)), dim=1)  # (N, C + C_skip, H, W)
            x = resnet(x, embedding)  # (N, C, H, W)
            x = self.attentions[number](x, context) if self.attentions else x
        for upsample in self.upsamplers if layers.stop is None else ():
            x = upsample(x, skips[-1].shape[2:] if skips else None)  # (N, C, 2H, 2W)
        return x


@torch.no_grad()
def draw_weights(net: nn.Module, seed: int) -> None:
    """Draw the first weights of a network that is to be trained.

    Products and convolutions are uniform within 1/sqrt(features that come in), as torch has it,
    embeddings normal. What is added to the stream begins at 0 (Dhariwal & Nichol 2021, app. A), so
    that the network begins as a chain of plain convolutions.

    Args:
        net: made of the parts above.
        seed: the same seed gives the same weights, on every device.
    """
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for weight in module.parameters(recurse=False):
                weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=draw))
        elif isinstance(module, nn.Embedding):
            module.weight.copy_(torch.empty(module.weight.shape).normal_(generator=draw))
        elif isinstance(module, nn.GroupNorm | LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, ResnetBlock2D):
            clear(module.conv2)
        elif isinstance(module, SpatialAttention):
            clear(module.to_out)
        elif isinstance(module, Transformer2DModel):
            clear(module.proj_out)


def clear(module: nn.Module) -> None:
    """Set all weights of a module to 0."""
    for weight in module.parameters():
        nn.init.zeros_(weight)

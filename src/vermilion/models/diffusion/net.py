"""The UNet (Ronneberger et al. 2015) of diffusion models: it sees a noisy picture and a time, and
says what the noise is, or whatever else it was trained to say (Ho et al. 2020, app. B; Dhariwal &
Nichol 2021; Rombach et al. 2022).

    e = W silu(W waves(t)) + label              what the time is, and the class, if any
    x = conv(x)
    down: x = attention(resnet(x, e)), halved   each level keeps what it made ...
    mid:  x = resnet(attention(resnet(x, e)), e)
    up:   x = attention(resnet([x, kept], e)), doubled            ... for the way up
    conv(silu(norm(x)))

Its state dict is that of diffusers' UNet2DModel or UNet2DConditionModel.

N items, C channels, H W height and width, S tokens of the context, D features of such a token,
E features of the embedding of time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import InputError
from vermilion.models.diffusion.blocks import (
    DownBlock,
    Downsample2D,
    MidBlock,
    ResnetBlock2D,
    TimestepEmbedding,
    UpBlock,
    Upsample2D,
    clear,
    draw_weights,
    time_encoding,
)
from vermilion.models.diffusion.config import UNET_2D, UNetConfig
from vermilion.models.diffusion.transformer import SpatialAttention, Transformer2DModel
from vermilion.nn.convolution import Conv2d
from vermilion.nn.linear import Embedding, VectorLinear
from vermilion.nn.maps import GroupNorm

_LAST, _BUT_LAST = slice(-1, None), slice(0, -1)


class FeatureCache:
    """What is deep in a UNet changes little from step to step and is not computed at each.

    DeepCache (Ma et al. 2023, sec. 3.2) at its shallowest branch: the last residual block alone is.

    Args:
        interval: at every so manieth step all is computed; at 1 always.
    """

    def __init__(self, interval: int = 3) -> None:
        self.interval = interval
        self._age, self._held = 0, torch.empty(0)

    def recalled(self, items: int) -> Tensor | None:
        """What was kept for as many items, (N, C, H, W); None where it is to be computed."""
        self._age += 1
        fresh = self._age < self.interval and len(self._held) == items
        return self._held if fresh else None

    def keep(self, h: Tensor) -> None:
        """Keep what was computed, (N, C, H, W)."""
        self._age, self._held = 0, h


class UNet(nn.Module):
    """A noisy picture and a time in, a prediction of the same height and width out.

    Args:
        config: what it is made of.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        first, levels = channels[0], len(channels)
        self.conv_in = Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = TimestepEmbedding(first, config.time_features)
        self.class_embedding = _class_embedding(config)
        self.down_blocks = nn.ModuleList(_down(config, level) for level in range(levels))
        self.mid_block = _mid(config)
        self.up_blocks = nn.ModuleList(_up(config, level) for level in reversed(range(levels)))
        self.reads = any("Cross" in str(block) for block in config.block_types)
        self.conv_norm_out = GroupNorm(config.norm_num_groups, first, config.norm_eps)
        self.conv_out = Conv2d(first, config.out_channels, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """What it predicts for x at the times t.

        Args:
            x: noisy pictures, (N, in_channels, H, W).
            t: their times, (N,), int64 or float32.
            context: tokens that it looks at, (N, S, D); None where the network reads none.
            labels: (N,) or (N, features), see `UNetConfig.class_embed_type`; None where the
                network is told none.
            cache: of the steps of these pictures; None: all is computed.

        Returns:
            (N, out_channels, H, W).

        Raises:
            InputError: a context or labels are missing, or given to a network without.
        """
        self._check(context, labels)
        e = F.silu(self.embed(t, labels))  # (N, E)
        x = 2 * x - 1 if self.config.center_input_sample else x
        if self.reads and labels is None and _twins(x, t):
            x = x[: len(x) // 2]  # guidance shows the same pictures with two contexts
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))  # (N, C, H, W)
        kept = [x]
        h = None if cache is None else cache.recalled(len(e))  # (N, C, H, W)
        if h is None:
            h = self._deep(x, e, context, kept)  # (N, C, H, W)
            if cache is not None:
                cache.keep(h)
        x = self.up_blocks[-1](h, e, context, kept, _LAST)
        x = self.conv_out(self.conv_norm_out(x, silu=True))  # (N, out_channels, H, W)
        return x.contiguous()

    def _deep(self, x: Tensor, e: Tensor, context: Tensor | None, kept: list[Tensor]) -> Tensor:
        """All but the last residual block, which reads x beside what is given: (N, C, H, W)."""
        for down in self.down_blocks:
            kept += down(x, e, context)
            x = kept[-1]
        if self.mid_block is not None:
            x = self.mid_block(x, e, context)
        for up in self.up_blocks[:-1]:
            x = up(x, e, context, kept)
        h: Tensor = self.up_blocks[-1](x, e, context, kept, _BUT_LAST)
        return h

    def embed(self, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The embedding of times (N,) and labels, (N, E)."""
        e: Tensor = self.time_embedding(self._waves(t))  # (N, E)
        if self.class_embedding is None or labels is None:
            return e
        if self.config.class_embed_type == "timestep":
            labels = self._waves(labels)  # (N, C)
        told: Tensor = self.class_embedding(labels)  # (N, E)
        return e + told.to(e.dtype)

    def _waves(self, t: Tensor) -> Tensor:
        config = self.config
        waves = time_encoding(
            t,
            config.block_out_channels[0],
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        return waves.to(self.conv_in.weight.dtype)  # (N, C)

    def _check(self, context: Tensor | None, labels: Tensor | None) -> None:
        if self.reads and context is None:
            raise InputError("context: this network reads text; give it a prompt")
        told = self.class_embedding is not None
        if told != (labels is not None):
            wrong = "is told a class; give it one" if told else "knows no classes; give it none"
            raise InputError(f"labels: this network {wrong}")

    def init_weights(self, seed: int) -> None:
        """Draw the first weights; see `blocks.draw_weights`. At first it predicts 0."""
        draw_weights(self, seed)
        clear(self.conv_out)

    def working_bytes(self, n: int, height: int, width: int) -> int:
        """About how much memory a pass takes beside the weights, without gradients.

        What the way down keeps, and what the busiest level holds at once: its maps, and the 8 C
        features of a token within a Transformer's feed-forward layer.

        Args:
            n: items of the pass; guidance doubles them.
            height: of what it sees, a latent's for a latent model.
            width: likewise.
        """
        kept = busiest = 0
        layers = self.config.each_level("layers_per_block")
        for level, channels in enumerate(self.config.block_out_channels):
            places = (height * width) >> 2 * level
            kept += places * channels * (layers[level] + 1)
            busiest = max(busiest, places * channels * 16)
        return n * (kept + busiest) * self.conv_in.weight.element_size()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of x."""
        return self.conv_in.weight.dtype


def _twins(x: Tensor, t: Tensor) -> bool:
    """Whether the second half of the pictures and times is the first again. No gradients then."""
    if torch.is_grad_enabled() or len(x) % 2:
        return False
    half = len(x) // 2
    return torch.equal(t[:half], t[half:]) and torch.equal(x[:half], x[half:])


def _class_embedding(config: UNetConfig) -> nn.Module | None:
    waves, features = config.block_out_channels[0], config.time_features
    size = config.projection_class_embeddings_input_dim
    if config.num_class_embeds is not None:
        return Embedding(config.num_class_embeds, features)
    if config.class_embed_type == "timestep":
        return TimestepEmbedding(waves, features)
    if config.class_embed_type == "identity":
        return nn.Identity()
    if config.class_embed_type == "projection" and size is not None:
        return TimestepEmbedding(size, features)
    if config.class_embed_type == "simple_projection" and size is not None:
        return VectorLinear(size, features)
    return None


def _resnet(config: UNetConfig, channels: int, out_channels: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        channels,
        out_channels,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        time_features=config.time_features,
        scale_shift=config.resnet_time_scale_shift == "scale_shift",
        dropped=config.dropout,
    )


def _attentions(config: UNetConfig, kind: str | None, level: int, count: int) -> list[nn.Module]:
    """The attentions of a block of some type: over its places, to the context, or none."""
    channels = config.block_out_channels[level]
    size = config.each_level("attention_head_dim")[level]
    if "Cross" in str(kind):
        return [
            Transformer2DModel(
                channels,
                size,  # here the field means the number of heads
                config.each_level("cross_attention_dim")[level],
                layers=config.each_level("transformer_layers_per_block")[level],
                groups=config.norm_num_groups,
                linear=config.use_linear_projection,
            )
            for _ in range(count)
        ]
    if "Attn" in str(kind):
        return [
            SpatialAttention(
                channels,
                channels if size is None else size,
                groups=config.norm_num_groups,
                eps=config.norm_eps,
            )
            for _ in range(count)
        ]
    return []


def _down(config: UNetConfig, level: int) -> DownBlock:
    channels, layers = config.block_out_channels, config.each_level("layers_per_block")[level]
    out, last = channels[level], level == len(channels) - 1
    return DownBlock(
        [_resnet(config, out if i else channels[max(level - 1, 0)], out) for i in range(layers)],
        _attentions(config, config.down_block_types[level], level, layers),
        None if last else Downsample2D(out, config.downsample_padding),
    )


def _mid(config: UNetConfig) -> MidBlock | None:
    kind, level = config.mid_block_type, len(config.block_out_channels) - 1
    channels = config.block_out_channels[level]
    if kind is None:
        return None
    if "Cross" in kind:
        attentions = _attentions(config, kind, level, 1)
        return MidBlock([_resnet(config, channels, channels) for _ in range(2)], attentions)
    if config.architecture != UNET_2D:
        return MidBlock([_resnet(config, channels, channels)])
    groups, size = config.attn_norm_num_groups, config.each_level("attention_head_dim")[level]
    if groups is None and config.resnet_time_scale_shift == "default":
        groups = config.norm_num_groups
    attention = SpatialAttention(
        channels, channels if size is None else size, groups=groups, eps=config.norm_eps
    )
    resnets = [_resnet(config, channels, channels) for _ in range(2)]
    return MidBlock(resnets, [attention] if config.add_attention else [])


def _up(config: UNetConfig, level: int) -> UpBlock:
    channels, layers = config.block_out_channels, config.each_level("layers_per_block")[level] + 1
    out = channels[level]
    kept = [out] * (layers - 1) + [channels[max(level - 1, 0)]]  # of the way down, the last first
    below = channels[min(level + 1, len(channels) - 1)]
    kind = config.up_block_types[len(channels) - 1 - level]
    return UpBlock(
        [_resnet(config, (out if i else below) + kept[i], out) for i in range(layers)],
        _attentions(config, kind, level, layers),
        Upsample2D(out) if level else None,
    )

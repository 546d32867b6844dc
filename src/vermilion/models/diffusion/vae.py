"""The autoencoder between pictures and latents (Rombach et al. 2022, sec. 3.1): a latent has an
eighth of a picture's height and width, and a network that works on latents needs a fraction of the
arithmetic.

    encoder: x = conv(x); resnets and a halving for each level; resnet, attention, resnet
             mean, logvar = W conv(silu(norm(x)))
    decoder: the same the other way round

Its state dict is that of diffusers' AutoencoderKL. With `patch_size` it works on squares of pixels.

N items, C channels, H W height and width of a picture, h w of a latent, Z channels of a latent,
P side of a square (`patch_size`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vermilion.models.diffusion.blocks import (
    DownBlock,
    Downsample2D,
    MidBlock,
    ResnetBlock2D,
    UpBlock,
    Upsample2D,
    draw_weights,
)
from vermilion.models.diffusion.config import VAEConfig
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.transformer import SpatialAttention
from vermilion.nn.convolution import Conv2d
from vermilion.nn.maps import GroupNorm

_EPS = 1e-6
_OVERLAP = 0.25  # of a tile's side that the next one covers too


class Gaussian(NamedTuple):
    """A normal distribution for each number of a latent (Kingma & Welling 2014).

    Attributes:
        mean: (N, Z, h, w).
        logvar: logarithm of the variance, (N, Z, h, w), -30 to 20.
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Mean and noise of its deviation: mean + exp(logvar/2) noise, (N, Z, h, w)."""
        return self.mean + (0.5 * self.logvar).exp() * noise.to(self.mean)

    def kl(self) -> Tensor:
        """Divergence from the standard normal distribution, in nats, of each item, (N,).

        1/2 Σ (mean² + var - 1 - logvar)               Kingma & Welling 2014, app. B
        """
        each = self.mean**2 + self.logvar.exp() - 1 - self.logvar  # (N, Z, h, w)
        return 0.5 * each.sum(dim=(1, 2, 3))


class Encoder(nn.Module):
    """A picture to the two halves of a distribution."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, layers = config.block_out_channels, config.layers_per_block
        self.conv_in = Conv2d(config.in_channels * config.patch_size**2, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, out in enumerate(channels):
            into = channels[max(level - 1, 0)]
            resnets = [_resnet(config, out if i else into, out) for i in range(layers)]
            last = level == len(channels) - 1
            self.down_blocks.append(
                DownBlock(resnets, downsample=None if last else Downsample2D(out, padding=0))
            )
        self.mid_block = _middle(config)
        self.conv_norm_out = GroupNorm(config.norm_num_groups, channels[-1], _EPS)
        self.conv_out = Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, P²C, H/P, W/P) → (N, 2Z, h, w)."""
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        for down in self.down_blocks:
            x = down(x)[-1]
        x = self.mid_block(x)
        y: Tensor = self.conv_out(self.conv_norm_out(x, silu=True))  # (N, 2Z, h, w)
        return y


class Decoder(nn.Module):
    """A latent to a picture."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, layers = config.block_out_channels, config.layers_per_block + 1
        self.conv_in = Conv2d(config.latent_channels, channels[-1], 3, padding=1)
        self.mid_block = _middle(config)
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            into, out = channels[min(level + 1, len(channels) - 1)], channels[level]
            resnets = [_resnet(config, out if i else into, out) for i in range(layers)]
            self.up_blocks.append(UpBlock(resnets, upsample=Upsample2D(out) if level else None))
        self.conv_norm_out = GroupNorm(config.norm_num_groups, channels[0], _EPS)
        self.conv_out = Conv2d(
            channels[0], config.out_channels * config.patch_size**2, 3, padding=1
        )

    def forward(self, z: Tensor) -> Tensor:
        """(N, Z, h, w) → (N, P²C, H/P, W/P)."""
        x = self.conv_in(z.contiguous(memory_format=torch.channels_last))
        x = self.mid_block(x)
        for up in self.up_blocks:
            x = up(x)
        y: Tensor = self.conv_out(self.conv_norm_out(x, silu=True))  # (N, P²C, H/P, W/P)
        return y


class AutoencoderKL(nn.Module):
    """Pictures to latents and back.

    Args:
        config: what it is made of.

    Attributes:
        use_slicing: whether the pictures of a batch are encoded and decoded one after another;
            the result is the same.
        use_tiling: whether a picture larger than a tile is cut into tiles that overlap and are
            blended, so that memory does not grow with it. The result differs a little: a tile
            does not know the others' mean colours.
        tile_sample_min_size: side of a tile in pixels, as the config's sample_size at first.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config, self._squares = config, PixelCodec(config.patch_size, config.in_channels)
        self.use_slicing = self.use_tiling = False
        self.tile_sample_min_size = config.sample_size
        two, one = 2 * config.latent_channels, config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = Conv2d(two, two, 1) if config.use_quant_conv else nn.Identity()
        self.post_quant_conv = Conv2d(one, one, 1) if config.use_post_quant_conv else nn.Identity()

    @property
    def factor(self) -> int:
        """Pixels of a picture's side that a latent's pixel stands for."""
        return self.config.factor

    @property
    def latent_channels(self) -> int:
        """Z."""
        return self.config.latent_channels

    @property
    def tile_latent_min_size(self) -> int:
        """Side of a tile in a latent's pixels."""
        return self.tile_sample_min_size // self.factor

    def encode(self, x: Tensor) -> Gaussian:
        """What a picture's latent may be.

        Args:
            x: (N, C, H, W), -1 to 1; sides are multiples of `factor`.

        Returns:
            Mean and logvar, each (N, Z, h, w).
        """
        both = self._each(self._encoded, x, latents=False)  # (N, 2Z, h, w)
        mean, logvar = both.chunk(2, dim=1)  # (N, Z, h, w) each
        return Gaussian(mean.contiguous(), logvar.clamp(-30.0, 20.0))

    def decode(self, z: Tensor) -> Tensor:
        """The picture of a latent.

        Args:
            z: (N, Z, h, w), neither scaled nor shifted.

        Returns:
            (N, C, H, W), about -1 to 1.
        """
        return self._each(self._decoded, z, latents=True)

    def _encoded(self, x: Tensor) -> Tensor:
        squares = self._squares.to_latents(x)  # (N, P²C, H/P, W/P)
        y: Tensor = self.quant_conv(self.encoder(squares))  # (N, 2Z, h, w)
        return y

    def _decoded(self, z: Tensor) -> Tensor:
        squares = self.decoder(self.post_quant_conv(z))  # (N, P²C, H/P, W/P)
        return self._squares.to_pictures(squares)

    def to_latents(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """What a diffusion model works on: (sample - shift_factor) * scaling_factor.

        Args:
            x: (N, C, H, W), -1 to 1.
            noise: standard normal, (N, Z, h, w); None: the mean is taken.

        Returns:
            (N, Z, h, w).
        """
        found = self.encode(x)
        z = found.mean if noise is None else found.sample(noise)  # (N, Z, h, w)
        return (z - (self.config.shift_factor or 0.0)) * self.config.scaling_factor

    def to_pictures(self, z: Tensor) -> Tensor:
        """The way back, (N, Z, h, w) → (N, C, H, W), about -1 to 1."""
        return self.decode(z / self.config.scaling_factor + (self.config.shift_factor or 0.0))

    def init_weights(self, seed: int) -> None:
        """Draw the first weights; see `blocks.draw_weights`."""
        draw_weights(self, seed)

    def working_bytes(self, height: int, width: int) -> int:
        """About how much memory decoding a picture takes beside the weights.

        The largest maps have the picture's height and width: the features that come into the last
        level twice, as they are and normalised, what is made of them, and a convolution's room.
        Measured at 512x512 pixels it was 742 MiB for an estimate of 768.

        Args:
            height: of the picture, in pixels.
            width: likewise.
        """
        channels = self.config.block_out_channels
        if self.use_tiling:
            height = min(height, self.tile_sample_min_size)
            width = min(width, self.tile_sample_min_size)
        maps = 2 * channels[min(1, len(channels) - 1)] + 2 * channels[0]
        maps = max(maps // self.config.patch_size**2, 2 * self.config.out_channels)
        return maps * height * width * self.encoder.conv_in.weight.element_size()

    def fit(self, height: int, width: int, n: int, free_bytes: int) -> None:
        """Choose slices, and tiles too, where pictures would else not fit into memory.

        Args:
            height: of the pictures, in pixels.
            width: likewise.
            n: how many are decoded at a time.
            free_bytes: memory that may be taken.
        """
        self.use_tiling = False
        self.use_slicing = n * self.working_bytes(height, width) > free_bytes
        self.use_tiling = self.working_bytes(height, width) > free_bytes

    def _each(self, run: Callable[[Tensor], Tensor], x: Tensor, *, latents: bool) -> Tensor:
        """Run on all items, or one after another, or on their tiles."""
        if self.use_slicing and len(x) > 1:
            return torch.cat([self._each(run, item, latents=latents) for item in x.chunk(len(x))])
        side = self.tile_latent_min_size if latents else self.tile_sample_min_size
        if self.use_tiling and max(x.shape[2:]) > side:
            out = self.tile_sample_min_size if latents else self.tile_latent_min_size
            return _tiled(run, x, side, out)
        return run(x).contiguous()


def _tiled(run: Callable[[Tensor], Tensor], x: Tensor, side: int, out: int) -> Tensor:
    """Run on tiles of x, (N, C, H, W), and put them together where they overlap.

    Args:
        run: what is done to a tile.
        x: what is cut.
        side: of a tile of x.
        out: of what `run` makes of it.

    Returns:
        As `run` gives it for the whole.
    """
    step, blended = int(side * (1 - _OVERLAP)), int(out * _OVERLAP)
    kept, rows = out - blended, []
    above: list[Tensor] = []
    for top in range(0, x.shape[2], step):
        tiles: list[Tensor] = []
        for left in range(0, x.shape[3], step):
            tile = run(x[:, :, top : top + side, left : left + side])  # (N, C, out, out)
            if above:
                tile = _blend(above[len(tiles)], tile, blended, dim=2)
            if tiles:
                tile = _blend(tiles[-1], tile, blended, dim=3)
            tiles.append(tile)
        rows.append(torch.cat([tile[:, :, :kept, :kept] for tile in tiles], dim=3))
        above = tiles
    return torch.cat(rows, dim=2)


def _blend(before: Tensor, tile: Tensor, extent: int, dim: int) -> Tensor:
    """The tile, over whose first rows (dim 2) or columns (dim 3) the last of another fade out."""
    extent = min(before.shape[dim], tile.shape[dim], extent)
    shape = [1, 1, 1, 1]
    shape[dim] = extent
    weight = torch.arange(extent, dtype=tile.dtype, device=tile.device).view(shape) / extent
    fading = before.narrow(dim, before.shape[dim] - extent, extent)
    first = torch.lerp(fading, tile.narrow(dim, 0, extent), weight)
    return torch.cat((first, tile.narrow(dim, extent, tile.shape[dim] - extent)), dim)


def _resnet(config: VAEConfig, channels: int, out_channels: int) -> ResnetBlock2D:
    return ResnetBlock2D(channels, out_channels, groups=config.norm_num_groups, eps=_EPS)


def _middle(config: VAEConfig) -> MidBlock:
    channels = config.block_out_channels[-1]
    attention = SpatialAttention(channels, channels, groups=config.norm_num_groups, eps=_EPS)
    return MidBlock(
        [_resnet(config, channels, channels) for _ in range(2)],
        [attention] if config.mid_block_add_attention else [],
    )

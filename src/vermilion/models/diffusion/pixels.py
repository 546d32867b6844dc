"""Pictures as they are, for networks that work on pixels; the two calls of an autoencoder."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class Codec(Protocol):
    """What lies between pictures and what a network sees: an `AutoencoderKL` or a `PixelCodec`."""

    @property
    def factor(self) -> int:
        """Pixels of a picture's side that a pixel of a latent stands for."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        ...

    def to_latents(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """(N, C, H, W), -1 to 1 → (N, latent_channels, H/factor, W/factor)."""
        ...

    def to_pictures(self, z: Tensor) -> Tensor:
        """The way back."""
        ...


class PixelCodec:
    """Squares of pixels become channels (space to depth), and nothing is lost.

    Args:
        patch: side of a square in pixels; with 1 a picture stays as it is.
        channels: of a picture.

    Raises:
        ValueError: one of them is below 1.
    """

    def __init__(self, patch: int = 1, channels: int = 3) -> None:
        for name, value in (("patch", patch), ("channels", channels)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: must be a whole number above 0 (found {value!r})")
        self.patch, self.channels = patch, channels

    @property
    def factor(self) -> int:
        """Pixels of a picture's side that a pixel of a latent stands for."""
        return self.patch

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.channels * self.patch**2

    def to_latents(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Channel c of the pixel (i, j) of a square becomes channel c patch² + i patch + j.

        Args:
            x: (N, C, H, W), whose sides are multiples of `patch`.
            noise: not needed, a picture has one latent alone.

        Returns:
            (N, C patch², H/patch, W/patch).
        """
        return x if self.patch == 1 else F.pixel_unshuffle(x, self.patch)

    def to_pictures(self, z: Tensor) -> Tensor:
        """The way back, (N, C patch², h, w) → (N, C, h patch, w patch)."""
        return z if self.patch == 1 else F.pixel_shuffle(z, self.patch)

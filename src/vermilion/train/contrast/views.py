"""Pixels from the cache to what a picture tower takes, changed at random in training.

    laid on a background → moved → mirrored → normalised

What happens to a picture is a function of the seed, the picture and the epoch.

N pictures, H W of a picture, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.data.pictures import Batch
from vermilion.models.contrast.preprocess import Preprocess

Pixels = NDArray[np.uint8]

_LEAST, _SPREAD = 160, 96  # a light colour's channels lie from 160 to 255
_PLAIN = 0.3  # of the random backgrounds are white, which most pictures are looked up on


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is changed in training.

    Attributes:
        seed: of the run.
        background: of what is transparent: "white", or light colours drawn anew.
        shift: most pixels that a picture is moved, each way; the background comes in.
        flip: whether half of them are mirrored.
    """

    seed: int
    background: Literal["white", "random"] = "white"
    shift: int = 0
    flip: bool = False

    def __call__(self, batch: Batch) -> Pixels:
        """Pictures of a batch, changed: (N, H, W, 3), uint8."""
        flipped, moves, colours = [], [], []
        for item, epoch in zip(batch.items.tolist(), batch.epochs.tolist(), strict=True):
            draw = np.random.default_rng((self.seed, item, epoch))
            flipped.append(self.flip and bool(draw.random() < 0.5))
            moves.append(draw.integers(-self.shift, self.shift, 2, endpoint=True))
            light = _LEAST + draw.integers(0, _SPREAD, 3)
            white = self.background == "white" or draw.random() < _PLAIN
            colours.append(np.full(3, 255) if white else light)
        ground = np.asarray(colours, np.uint8)  # (N, 3)
        pixels = flattened(batch.pixels, ground)
        for n, (mirrored, (down, right)) in enumerate(zip(flipped, moves, strict=True)):
            picture = pixels[n, :, ::-1] if mirrored else pixels[n]
            pixels[n] = moved(picture, int(down), int(right), ground[n])
        return pixels


def flattened(pixels: Pixels, ground: Pixels) -> Pixels:
    """Pictures laid on colours.

    Args:
        pixels: (N, H, W, 3 or 4), straight alpha.
        ground: (N, 3).

    Returns:
        (N, H, W, 3), new.
    """
    if pixels.shape[3] == 3:
        return pixels.copy()
    alpha = pixels[..., 3:].astype(np.uint16)  # (N, H, W, 1)
    below = ground[:, None, None, :].astype(np.uint16)  # (N, 1, 1, 3)
    mixed = pixels[..., :3] * alpha + below * (255 - alpha) + 127
    return (mixed // 255).astype(np.uint8)


def moved(picture: Pixels, down: int, right: int, ground: Pixels) -> Pixels:
    """A picture moved by some pixels: (H, W, 3) → the same, filled up with a colour, (3,)."""
    if not down and not right:
        return picture.copy()
    high, wide = picture.shape[:2]
    out = np.empty_like(picture)
    out[:] = ground
    rows, columns = _overlap(high, down), _overlap(wide, right)
    out[rows[1], columns[1]] = picture[rows[0], columns[0]]
    return out


def _overlap(size: int, by: int) -> tuple[slice, slice]:
    """Where what stays is taken from, and where it goes."""
    kept = max(0, size - abs(by))
    there, gone = max(0, -by), max(0, by)
    return slice(there, there + kept), slice(gone, gone + kept)


def inputs(pixels: Pixels, preprocess: Preprocess, device: torch.device) -> Tensor:
    """What a tower takes: (N, H, W, 3) → (N, 3, H, W), float32, channels last in memory."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (N, 3, H, W), as it lies in memory
    return preprocess.normalise(x.to(device))

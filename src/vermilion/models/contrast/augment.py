"""Two views of a picture for SimCLR (Chen et al. 2020, app. A).

    cut out at random and resized → flipped → colours jittered → grey → blurred

Each view is a pure function of the picture and three numbers: the run's seed, the item's number
and the view's. What it is does not depend on the batch, the process or the order.

C channels (red, green, blue), H height, W width, S side of a view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How views are made; the defaults are the paper's.

    Attributes:
        size: S, side of a view in pixels.
        scale: least and most part of the picture's area that is cut out.
        ratio: least and most width of that part over its height.
        flip: probability that a view is mirrored.
        jitter: probability that its colours are changed.
        strength: s; brightness, contrast and saturation change by up to 0.8 s, hue by 0.2 s
            of a turn.
        grey: probability that a view is grey.
        blur: probability that it is blurred.
        sigma: least and most width of the blur, in pixels of a view of 224.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    strength: float = 1.0
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __call__(self, picture: NDArray[np.uint8], seed: int, item: int, view: int) -> Tensor:
        """One view.

        Args:
            picture: (H, W, 3).
            seed: of the run, 0 or more.
            item: the picture's number, 0 or more.
            view: 0 or 1.

        Returns:
            (3, S, S), uint8.
        """
        draw = np.random.default_rng((seed, item, view))
        box = random_box(picture.shape[1], picture.shape[0], self.scale, self.ratio, draw)
        x = resized_crop(picture, box, self.size)  # (3, S, S)
        if draw.random() < self.flip:
            x = x.flip(-1)
        if draw.random() < self.jitter:
            x = self._jittered(x, draw)
        if draw.random() < self.grey:
            x = grey(x)
        if draw.random() < self.blur:
            x = blur(x, draw.uniform(*self.sigma) * self.size / 224)
        return (x * 255).round().to(torch.uint8)

    def _jittered(self, x: Tensor, draw: np.random.Generator) -> Tensor:
        """The four changes of colour, in an order that is drawn."""
        most = 0.8 * self.strength
        factors = draw.uniform(max(0.0, 1 - most), 1 + most, 3)
        turn = draw.uniform(-0.2 * self.strength, 0.2 * self.strength)
        changes: list[Callable[[Tensor], Tensor]] = [
            lambda y: brightness(y, factors[0]),
            lambda y: contrast(y, factors[1]),
            lambda y: saturation(y, factors[2]),
            lambda y: hue(y, turn),
        ]
        for number in draw.permutation(len(changes)):
            x = changes[number](x)
        return x


def random_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draw: np.random.Generator,
) -> Box:
    """A part of a picture: its area evenly, its sides' ratio evenly in the logarithm.

    (Szegedy et al. 2015, sec. 6.) Where ten draws stand out of the picture, the middle.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_ATTEMPTS):
        area = draw.uniform(*scale) * width * height
        shape = math.exp(draw.uniform(low, high))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(draw.integers(0, width - w, endpoint=True))
            top = int(draw.integers(0, height - h, endpoint=True))
            return left, top, left + w, top + h
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def resized_crop(picture: NDArray[np.uint8], box: Box, size: int) -> Tensor:
    """A part of a picture, (H, W, 3), resized: (3, S, S), float32, 0 to 1."""
    part = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return torch.from_numpy(np.asarray(part).copy()).permute(2, 0, 1) / 255  # (3, S, S)


def grey(x: Tensor) -> Tensor:
    """Lightness in all three channels: (..., 3, H, W) → the same."""
    return _lightness(x).expand_as(x)


def brightness(x: Tensor, factor: float) -> Tensor:
    """0 is black, 1 changes nothing: (..., 3, H, W), 0 to 1 → the same."""
    return (x * factor).clamp(0, 1)


def contrast(x: Tensor, factor: float) -> Tensor:
    """0 is the mean lightness everywhere, 1 changes nothing: (..., 3, H, W) → the same."""
    return _lightness(x).mean((-2, -1), keepdim=True).lerp(x, factor).clamp(0, 1)


def saturation(x: Tensor, factor: float) -> Tensor:
    """0 is grey, 1 changes nothing: (..., 3, H, W), 0 to 1 → the same."""
    return _lightness(x).lerp(x, factor).clamp(0, 1)


def hue(x: Tensor, turn: float) -> Tensor:
    """Turn the hue (Smith 1978), value and saturation stay: (..., 3, H, W), 0 to 1 → the same.

    Args:
        x: colours.
        turn: 1 is once around; 1/3 makes red green.
    """
    value, least = x.amax(-3, keepdim=True), x.amin(-3, keepdim=True)  # (..., 1, H, W)
    spread = value - least
    r, g, b = ((value - x) / spread.clamp(min=1e-8)).chunk(3, dim=-3)
    red, green = x[..., :1, :, :] == value, x[..., 1:2, :, :] == value
    # In sixths of a turn from red.
    angle = torch.where(red, b - g, torch.where(green, 2 + r - b, 4 + g - r)) + 6 * turn
    # A channel is full within a sixth of its own place and least beyond two of them.
    shift = torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]
    place = (angle + shift) % 6  # (..., 3, H, W)
    return value - spread * torch.minimum(place, 4 - place).clamp(0, 1)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur: (..., 3, H, W) → the same. Beyond its edges a picture is mirrored.

    Args:
        x: colours.
        sigma: in pixels, above 0; the bell is cut at four of them, or at the picture's side.
    """
    reach = min(max(1, math.ceil(4 * sigma)), min(x.shape[-2:]) - 1)
    if reach < 1:
        return x
    places = torch.arange(-reach, reach + 1, device=x.device)
    bell = torch.exp(-(places**2) / (2 * sigma**2))  # (2 reach + 1,)
    bell = (bell / bell.sum()).expand(x.shape[-3], 1, 1, -1)
    padded = F.pad(x.view(-1, *x.shape[-3:]), (reach,) * 4, mode="reflect")
    wide = F.conv2d(padded, bell, groups=x.shape[-3])
    return F.conv2d(wide, bell.mT, groups=x.shape[-3]).view(x.shape)


def _lightness(x: Tensor) -> Tensor:
    """(..., 3, H, W) → (..., 1, H, W)."""
    weights = torch.tensor(_LUMA, device=x.device)[:, None, None]
    return (x * weights).sum(-3, keepdim=True)

"""Pictures of a person to the tensors of a network, and back.

H W height and width, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

Pixels = NDArray[np.uint8]
_SEAM = 1 / 128  # of the longer side: how far a painted part and a kept one go over into each other


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture at other sides, as large as covers them; what stands over is cut off, evenly.

    Args:
        pixels: (H, W, 3 or 4), straight alpha.
        width: in pixels.
        height: likewise.

    Returns:
        (height, width, 4).
    """
    image = Image.fromarray(pixels).convert("RGBA")
    if image.size != (width, height):
        scale = max(width / image.width, height / image.height)
        across, down = width / scale, height / scale
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (left, top, left + across, top + down)
        # Pillow weighs colours by how opaque they are.
        image = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(image)


def to_tensor(pixels: Pixels, channels: int) -> Tensor:
    """What a model sees of a picture.

    Args:
        pixels: (H, W, 4), straight alpha.
        channels: 4: colours that are premultiplied, and alpha; 3: on white; 1: grey.

    Returns:
        (C, H, W), float32, -1 to 1.
    """
    x = torch.from_numpy(pixels.astype(np.float32) / 255)  # (H, W, 4)
    colour, alpha = x[..., :3], x[..., 3:]
    seen = (
        torch.cat([colour * alpha, alpha], dim=-1) if channels == 4 else colour * alpha + 1 - alpha
    )
    if channels == 1:
        seen = seen @ torch.tensor([[0.299], [0.587], [0.114]])  # (H, W, 1)
    return seen.permute(2, 0, 1) * 2 - 1  # (C, H, W)


def from_tensor(picture: Tensor) -> Pixels:
    """The way back: (1, 3 or 4, H, W), -1 to 1 → (H, W, 3) or (H, W, 4), straight alpha."""
    x = (picture.float().cpu().clamp(-1, 1) + 1) / 2  # (C, H, W)
    if len(x) == 4:
        colour, alpha = x[:3], x[3:]
        x = torch.cat([(colour / alpha.clamp(min=1 / 255)).clamp(max=1), alpha])
    x = x.expand(3, -1, -1) if len(x) == 1 else x
    found: Pixels = (x.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return found


def mask_of(pixels: Pixels) -> Tensor:
    """What is painted anew: where a mask, (H, W, 4), is light and not clear. (1, H, W), 0 to 1."""
    return (to_tensor(_on_black(pixels), 1) + 1) / 2


def _on_black(pixels: Pixels) -> Pixels:
    found = pixels.astype(np.float32)
    found[..., :3] *= found[..., 3:] / 255
    found[..., 3] = 255
    return found.round().astype(np.uint8)


def put_back(painted: Pixels, before: Pixels, mask: Pixels) -> Pixels:
    """A picture whose kept part is, but for a seam, what it was to the bit.

    An autoencoder gives nothing back just as it was.

    Args:
        painted: (H, W, 3 or 4).
        before: (H, W, 4).
        mask: (H, W, 4); see `mask_of`.

    Returns:
        As `painted`.
    """
    hole = Image.fromarray((mask_of(mask)[0] >= 0.5).numpy().astype(np.uint8) * 255)
    soft = hole.filter(ImageFilter.GaussianBlur(max(hole.size) * _SEAM))
    first, second = (
        Image.fromarray(one).convert("RGBA").convert("RGBa") for one in (painted, before)
    )
    mixed = Image.composite(first, second, soft).convert("RGBA")
    if painted.shape[2] == 3:  # its model paints on white
        mixed = Image.alpha_composite(Image.new("RGBA", mixed.size, "white"), mixed).convert("RGB")
    return np.asarray(mixed)

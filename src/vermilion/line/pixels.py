"""Pictures as arrays: with an alpha channel, at other sizes.

H W of a picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vermilion.data.alpha import Floats, Pixels, premultiplied, straight
from vermilion.errors import InputError


def rgba(pixels: Pixels) -> Pixels:
    """A picture with an alpha channel, (H, W, 4).

    Args:
        pixels: (H, W, 3) or (H, W, 4), straight alpha.

    Raises:
        InputError: it is no such array.
    """
    good = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if not good or pixels.size == 0:
        raise InputError("picture: has to be a uint8 array, (H, W, 3) or (H, W, 4)")
    if pixels.shape[2] == 4:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture at another size by Lanczos' filter, so that clear parts lend no colour.

    Args:
        pixels: (H, W, 4), straight alpha.
        size: width and height in px.
    """
    return straight(filtered(pixels, size))


def filtered(pixels: Pixels, size: tuple[int, int]) -> Floats:
    """Premultiplied, (H, W, 4), 0 to 255, at another size."""
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel)).resize(size, Image.Resampling.LANCZOS)
        )
        for channel in np.moveaxis(premultiplied(pixels), -1, 0)
    ]
    out = np.stack(channels, axis=-1).clip(0, 255)
    out[..., :3] = np.minimum(out[..., :3], out[..., 3:])
    return out.astype(np.float32)

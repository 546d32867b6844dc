"""Colours and how opaque they are: premultiplied ↔ straight. H W of a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def premultiplied(pixels: Pixels) -> Floats:
    """Colours multiplied by alpha, (H, W, 4), 0 to 255."""
    out = pixels.astype(np.float32)
    out[..., :3] *= out[..., 3:] / 255
    return out


def straight(colours: Floats) -> Pixels:
    """Of premultiplied colours, (H, W, 4), 0 to 255, straight ones; 0 where nothing is drawn."""
    alpha = colours[..., 3:].round()
    colour = np.divide(
        colours[..., :3] * 255,
        colours[..., 3:],
        out=np.zeros_like(colours[..., :3]),
        where=alpha > 0,
    )
    return np.concatenate([colour.round().clip(0, 255), alpha], axis=-1).astype(np.uint8)

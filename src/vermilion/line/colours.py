"""A picture's few colours: which they are, and which of them each of its pixels has.

H W of a picture, K colours, S sides of the picture that is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vermilion.data.alpha import Floats, Pixels, premultiplied, straight
from vermilion.line.pixels import filtered

_SAME = 20.0  # colours nearer than this, of 255, are one
_EVEN = 24.0  # of 255: where neighbours differ by less, a pixel tells a colour of its own
_MIXED = 32.0  # of 255: a pixel nearer to a mixture of its neighbours' colours is that mixture
_RARE = 0.004  # share of the pixels that a colour needs
_OPAQUE = 128


def palette_of(pixels: Pixels, most: int) -> Floats:
    """The colours of a picture, (K, 3), the commonest first.

    Even places count for more: what lies on an edge is a mixture.
    """
    steps = np.zeros(pixels.shape[:2], np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(premultiplied(pixels), axis=axis)).max(-1)
        for side in ((1, 0), (0, 1)):
            pad = [(0, 0), (0, 0)]
            pad[axis] = side
            steps = np.maximum(steps, np.pad(step, pad))
    weights = (pixels[..., 3] > 200) / (1 + (steps / _EVEN) ** 2)  # (H, W)
    if weights.sum() < 1:
        weights = pixels[..., 3] / 255 + 1e-6
    taken = weights > 0
    # Alike colours first become one, so that there are few to compare.
    coarse, inverse = np.unique(pixels[taken][:, :3] // 8, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    mass = np.bincount(inverse, weights[taken]).astype(np.float64)
    sums = [np.bincount(inverse, weights[taken] * pixels[taken][:, c]) for c in range(3)]
    found: NDArray[np.float64] = np.stack(sums, axis=-1) / mass[:, None]  # (N, 3)
    near = ((found[:, None] - found[None]) ** 2).sum(-1) < _SAME**2 if len(coarse) < 4000 else None
    return _merged(found, mass, near, most)


def _merged(found: NDArray[np.float64], mass: NDArray[np.float64], near: Any, most: int) -> Floats:
    """The colours that stand for most of those that were found, then moved into their middle."""
    left = mass.copy()
    chosen: list[NDArray[np.float64]] = []
    for _ in range(most):
        if near is None:
            first = int(left.argmax())
            around = ((found - found[first]) ** 2).sum(-1) < _SAME**2
        else:
            first = int((near @ left).argmax())
            around = near[first]
        own = around & (left > 0)
        share = left[own].sum()
        if chosen and share < max(_RARE * mass.sum(), 0.8):
            break
        chosen.append((found[own] * left[own, None]).sum(0) / share)
        left[around] = 0
        if left.sum() <= 0:
            break
    palette = np.array(chosen)
    for _ in range(3):
        nearest = ((found[:, None] - palette[None]) ** 2).sum(-1).argmin(1)
        for k in range(len(palette)):
            own = nearest == k
            if own.any():
                palette[k] = (found[own] * mass[own, None]).sum(0) / mass[own].sum()
    return palette.round().astype(np.float32)


def assigned(pixels: Pixels, palette: Floats, size: tuple[int, int]) -> Pixels:
    """The picture at another size, (S, S, 4), every pixel clear or of one colour of the palette."""
    smooth = filtered(pixels, size)
    clear = smooth[..., 3] < _OPAQUE
    colour = straight(smooth)[..., :3].astype(np.float32)
    across = np.arange(size[0]) * pixels.shape[1] // size[0]
    down = np.arange(size[1]) * pixels.shape[0] // size[1]
    allowed = _allowed(pixels, palette)[down][:, across]  # (S, S, K)
    best = np.full(clear.shape, np.inf, np.float32)
    number = np.zeros(clear.shape, np.intp)
    for k, own in enumerate(palette):
        distance = np.where(allowed[..., k], ((colour - own) ** 2).sum(-1), np.inf)
        number = np.where(distance < best, k, number)
        best = np.minimum(best, distance)
    flat = np.concatenate([palette.astype(np.uint8)[number], np.where(clear, 0, 255)[..., None]], 2)
    flat[clear] = 0
    return flat.astype(np.uint8)


def _allowed(pixels: Pixels, palette: Floats) -> NDArray[np.bool_]:
    """Which colours each pixel may have, (H, W, K): those around it, if a mixture explains it.

    Without this a grey line would run along each edge of black and white.
    """
    colour = pixels[..., :3].astype(np.float32)
    distance = np.stack([((colour - own) ** 2).sum(-1) for own in palette], axis=-1)
    sure = (distance.min(-1) < _EVEN**2) & (pixels[..., 3] > 200)
    nearest = distance.argmin(-1)
    around = np.stack(
        [ndimage.maximum_filter(sure & (nearest == k), size=3) for k in range(len(palette))], -1
    )
    explained = np.zeros(sure.shape, np.bool_)
    for i, first in enumerate(palette):
        explained |= around[..., i] & (distance[..., i] < _MIXED**2)
        for j in range(i):
            both = around[..., i] & around[..., j] & ~explained
            if both.any():
                explained[both] = _off_line(colour[both], first, palette[j]) < _MIXED**2
    return around | ~explained[..., None]


def _off_line(colours: Floats, start: Floats, end: Floats) -> Floats:
    """Squared distance of colours, (N, 3), from the mixtures of two."""
    way = end - start
    part = ((colours - start) @ way / max(float(way @ way), 1e-6)).clip(0, 1)
    off: Floats = ((colours - start - part[:, None] * way) ** 2).sum(-1)
    return off

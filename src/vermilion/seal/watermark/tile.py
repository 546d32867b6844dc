"""Where a picture's watermark lies: a picture's detail on one tile, and the waves of the tile.

H, W are rows and columns; T = 128 is the tile's side; N waves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage, sparse

from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark.key import derive, shuffled, signs

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

TILE = 128
_INNER, _OUTER = 6.0, 34.0  # waves per tile, between which the chips lie
_OFF_AXIS = 2  # waves closer to the axes are left out: lines of text and block edges lie there
_SYNC = 1 / 3  # share of the waves that tell where the pattern lies
_CALM = 0.6  # grey levels, root mean square, on flat areas
_BUSY = 0.16  # share of the local spread (5x5 points) that is added on busy areas
_EDGE, _EDGE_LOUDEST = 0.06, 2.0  # the same on narrow lines and edges, and grey levels at most
_LOUDEST = 4.0  # grey levels, root mean square


@dataclass(frozen=True, slots=True)
class Waves:
    """The waves of a key: which they are, and what their signs are for."""

    rows: NDArray[np.int64]  # (N,)
    columns: NDArray[np.int64]  # (N,)
    ring: NDArray[np.int64]  # (N,) waves of about one length have one number
    sync: NDArray[np.bool_]  # (N,)
    signs: NDArray[np.complex128]  # (N,) ±1 ± 1j; each part is a chip
    group: NDArray[np.int64]  # (2N,) the code's bit that each chip carries; 216 for the sync

    def carrying(self, payload: int) -> NDArray[np.complex128]:
        """The signs with the payload's code on them."""
        bits = np.append(code.encode(payload), 1).astype(np.float64)
        return (self.signs.view(np.float64) * bits[self.group]).view(np.complex128)


@lru_cache(maxsize=4)
def waves_of(key: bytes) -> Waves:
    """The waves of a key, with its signs."""
    rows, columns = np.meshgrid(
        np.arange(-TILE // 2, TILE // 2), np.arange(TILE // 2), indexing="ij"
    )
    length = np.hypot(rows, columns)
    used = (length >= _INNER) & (length <= _OUTER)
    used &= (np.abs(rows) >= _OFF_AXIS) & (columns >= _OFF_AXIS)
    rows, columns, length = rows[used], columns[used], length[used]
    count = len(rows)
    ours = derive(key, "picture watermark")
    sync = np.zeros(count, bool)
    sync[shuffled(ours, "sync", count)[: round(_SYNC * count)]] = True
    coins = signs(ours, "signs", 2 * count)
    group = np.full((count, 2), code.CODE_BITS)
    chips = 2 * int((~sync).sum())
    group[~sync] = (shuffled(ours, "bits", chips) % code.CODE_BITS).reshape(-1, 2)
    ring = np.round((length - _INNER) / 2).astype(np.int64)
    return Waves(rows % TILE, columns, ring, sync, coins[::2] + 1j * coins[1::2], group.ravel())


def canonical(pixels: Pixels, repeats: int) -> tuple[Plane, float]:
    """Luminance over white at the canonical size (h, w), 0 to 255, and the scale that led there."""
    height, width = pixels.shape[:2]
    alpha = pixels[..., 3:]
    picture = Image.fromarray(pixels)
    if alpha.min() < 255:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    light = np.asarray(picture.convert("RGB").convert("L"), np.float32)
    scale = TILE * repeats / math.sqrt(height * width)
    columns, rows = max(1, int(width * scale)), max(1, int(height * scale))
    box = (0.0, 0.0, min(width, columns / scale), min(height, rows / scale))
    image = Image.fromarray(light).resize((columns, rows), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image), scale


def analyse(light: Plane) -> tuple[Plane, Plane, Plane]:
    """Detail weighted for detection, the mask, and the weight that the mask's pattern has there.

    A place of which the host's detail varies by v, and to which mask * pattern is added, tells of
    the pattern with the weight mask / (mask^2 + v): the matched filter in noise of variance v.
    """
    detail = light - ndimage.uniform_filter(light, 15)
    power = ndimage.uniform_filter(detail * detail, 3)
    near = ndimage.uniform_filter(light, 5)
    rough = ndimage.uniform_filter(light * light, 5) - near * near
    rough = np.sqrt(np.maximum(rough, 0))
    # Opening takes away what is narrow: beside an edge between flat areas little can be hidden.
    busy = ndimage.uniform_filter(opened(rough), 7)
    edge = np.minimum(_EDGE * rough, np.float32(_EDGE_LOUDEST))
    mask = np.minimum(_CALM + _BUSY * busy + edge, np.float32(_LOUDEST))
    variance = np.maximum(ndimage.uniform_filter(power, 7), 0)
    gain = mask / (mask * mask + variance)
    return detail * gain, mask, mask * gain


def opened(plane: Plane) -> Plane:
    """Grey opening with a square of 9 x 9, equal to `scipy.ndimage.grey_opening` and quicker.

    A minimum over nine is one over two, of those over two, of those over two, and one more.
    """
    for least in (np.minimum, np.maximum):
        for axis in (0, 1):
            width = [(4, 4) if one == axis else (0, 0) for one in (0, 1)]
            whole = np.pad(plane, width, mode="symmetric").swapaxes(0, axis)  # (n + 8, ...)
            found = whole
            for step in (1, 2, 4):
                found = least(found[:-step], found[step:])
            plane = least(found[:-1], whole[8:]).swapaxes(0, axis)
    return plane


@lru_cache(maxsize=2048)
def _bins(length: int, scale: float) -> sparse.csr_array:
    """The matrix (T, length) that adds up points that lie `scale` tile points apart."""
    place = (np.arange(length) + 0.5) * scale - 0.5
    lower = np.floor(place).astype(np.int64)
    part = (place - lower).astype(np.float32)
    values = np.concatenate([1 - part, part])
    rows = np.concatenate([lower, lower + 1]) % TILE
    columns = np.tile(np.arange(length), 2)
    return sparse.csr_array((values, (rows, columns)), shape=(TILE, length))


def fold(detail: Plane, scale: float) -> Plane:
    """All repeats of the tile laid over one another and averaged: (T, T)."""
    rows, columns = detail.shape
    once = _bins(rows, scale) @ detail  # (T, W)
    tile = (_bins(columns, scale) @ once.T).T  # (T, T)
    return np.asarray(tile * np.float32(TILE * TILE / detail.size))


def spectrum_of(tile: Plane, waves: Waves, weight: float) -> NDArray[np.complex128]:
    """How much of each wave a tile holds: (N,), in units of the mask."""
    whole = fft.rfft2(tile)
    held = whole[waves.rows, waves.columns].astype(np.complex128)
    return held * (math.sqrt(2) / TILE**2 / weight)


def pattern_of(amounts: NDArray[np.complex128], waves: Waves) -> Plane:
    """The tile that holds so much of each wave: (T, T)."""
    whole = np.zeros((TILE, TILE // 2 + 1), np.complex128)
    whole[waves.rows, waves.columns] = amounts * (TILE**2 / math.sqrt(2))
    return fft.irfft2(whole, s=(TILE, TILE)).astype(np.float32)


def usual_sizes(spectrum: NDArray[np.complex128], waves: Waves) -> NDArray[np.float64]:
    """The usual size of a wave of that length, root mean square: (N,)."""
    power = np.abs(spectrum) ** 2
    counts = np.bincount(waves.ring)
    mean = np.bincount(waves.ring, power) / np.maximum(counts, 1)
    usual: NDArray[np.float64] = np.sqrt(mean + 1e-12)[waves.ring]
    return usual

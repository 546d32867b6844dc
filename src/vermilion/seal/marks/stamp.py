"""Words as pixels: their letters, the plate or outline around them, and where they stand.

Shape letters: H W of a picture, h w of the box that a stamp covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vermilion.errors import InputError
from vermilion.seal.marks import Place
from vermilion.seal.marks.font import typeface

SHARE = 0.05  # of the shortest side: the least height, GB 45438-2025
LEGIBLE = 11  # pixels of height from which every sign can be read
SMALLEST = 4  # pixels of height, below which nothing can be made out
LIGHT, DARK = (255, 255, 255), (16, 16, 18)

Style = Literal["auto", "plate", "outline"]
Mask = NDArray[np.float32]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are not in it


@dataclass(frozen=True, slots=True)
class Letters:
    """Words, drawn.

    Attributes:
        mask: their coverage, float32 (h, w) in [0, 1], cropped to what is drawn.
        height: rows from the first to the last that is at least half covered somewhere.
        stroke: width in pixels of the outline that suits them.
    """

    mask: Mask
    height: int
    stroke: float


@lru_cache(maxsize=64)
def letters(words: str, least: int) -> Letters:
    """Draw words so that their drawn height is at least `least` pixels, and hardly more.

    A font draws smaller than its size, and how much smaller depends on the words: what is drawn
    is measured, and the size raised until it is enough.
    """
    left, top, right, bottom = typeface(200).getbbox(words, anchor="ls")
    size = least * 200 / (bottom - top)
    while True:
        font = typeface(round(size, 2))
        left, top, right, bottom = font.getbbox(words, anchor="ls")
        canvas = Image.new("L", (math.ceil(right - left) + 4, math.ceil(bottom - top) + 4))
        ImageDraw.Draw(canvas).text((2 - left, 2 - top), words, 255, font, anchor="ls")
        mask = _coverage(canvas)  # (h, w)
        rows = np.flatnonzero((mask >= 0.5).any(axis=1))
        height = int(rows[-1] - rows[0]) + 1 if rows.size else 0
        if height >= least:
            inked = np.argwhere(mask > 0)
            (y0, x0), (y1, x1) = inked.min(axis=0), inked.max(axis=0) + 1
            return Letters(mask[y0:y1, x0:x1], height, max(1.0, size / 14))
        size *= 1.005


@dataclass(frozen=True, slots=True)
class Layout:
    """Where words stand in a picture.

    Attributes:
        letters: the words, drawn.
        box: of the words.
        area: of everything that is drawn, plate and outline included.
    """

    letters: Letters
    box: Box
    area: Box


def lay_out(width: int, height: int, words: str, place: Place) -> Layout:
    """Find size and place of words in a picture of `width` x `height` pixels.

    The words are as high as the standard asks, and `LEGIBLE` pixels where that is more. Where
    they would be too wide they are made smaller, though never than the standard's share.

    Raises:
        InputError: they do not fit.
    """
    least = max(SMALLEST, math.ceil(SHARE * min(width, height)))
    tall = max(least, LEGIBLE)
    while True:
        drawn = letters(words, tall)
        rows, columns = drawn.mask.shape
        # Room around the words, and from there to the edge; both give way in a small picture.
        pad_x, pad_y = round(0.45 * drawn.height), round(0.32 * drawn.height)
        gap = round(0.5 * drawn.height)
        spare_x, spare_y = (width - columns) // 2, (height - rows) // 2
        if spare_x >= min(pad_x, 1) and spare_y >= min(pad_y, 1):
            break
        if tall == least:
            raise InputError(
                f"mark: a picture of {width}x{height} pixels has no room for {words!r}, which is"
                f" {columns}x{rows} at the least height that can be seen; make it larger, or"
                " export it without a mark and say why"
            )
        tall -= 1
    pad_x, pad_y = min(pad_x, spare_x), min(pad_y, spare_y)
    gap_x, gap_y = min(gap, spare_x - pad_x), min(gap, spare_y - pad_y)
    wide, high = columns + 2 * pad_x, rows + 2 * pad_y
    x, y = (width - wide) // 2, gap_y
    if place.endswith("left"):
        x = gap_x
    elif place.endswith("right"):
        x = width - gap_x - wide
    if place.startswith("bottom"):
        y = height - gap_y - high
    box = (x + pad_x, y + pad_y, x + pad_x + columns, y + pad_y + rows)
    return Layout(drawn, box, (x, y, x + wide, y + high))


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is laid over a picture, and where.

    Attributes:
        area: the pixels that change.
        colour: premultiplied, float32 (h, w, 3), 0 to 255.
        cover: opacity, float32 (h, w, 1), 0 to 1.
        letters: their coverage, float32 (h, w), 0 to 1.
        ring: bool (h, w): the pixels beside the letters, from which they have to stand out.
        ink: the letters' colour.
    """

    area: Box
    colour: Mask
    cover: Mask
    letters: Mask
    ring: NDArray[np.bool_]
    ink: tuple[int, int, int]

    def onto(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of a picture with the stamp on it, or of all frames of one that moves.

        Args:
            pixels: uint8 (H, W, 3 or 4) or (N, H, W, 3 or 4); alpha is straight.
        """
        marked = pixels.copy()
        x0, y0, x1, y1 = self.area
        for frame in marked if marked.ndim == 4 else (marked,):
            frame[y0:y1, x0:x1] = self.over(frame[y0:y1, x0:x1])
        return marked

    def over(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same for the covered part alone: uint8 (h, w, 3 or 4) to the same."""
        under = part.astype(np.float32)
        if part.shape[-1] == 3:
            return _bytes(self.colour + (1 - self.cover) * under)
        alpha = under[..., 3:] / 255
        seen = self.cover + (1 - self.cover) * alpha  # (h, w, 1)
        mixed = self.colour + (1 - self.cover) * alpha * under[..., :3]
        mixed /= np.maximum(seen, 1e-6)
        # What stays wholly clear keeps the colour that it hides.
        mixed = np.where(seen > 0, mixed, under[..., :3])
        return _bytes(np.concatenate([mixed, 255 * seen], axis=-1))


def _bytes(values: Mask) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = np.rint(values).astype(np.uint8)
    return whole


def plate(layout: Layout, opacity: float) -> Stamp:
    """Light words on a dark plate with round corners.

    Args:
        layout: where.
        opacity: of the plate, 0 to 1.
    """
    mask = _within(layout)
    high, wide = mask.shape
    scale = 4
    canvas = Image.new("L", (wide * scale, high * scale))
    corners = (0, 0, wide * scale - 1, high * scale - 1)
    ImageDraw.Draw(canvas).rounded_rectangle(corners, round(0.28 * high * scale), 255)
    shape = _coverage(canvas.resize((wide, high), Image.Resampling.BOX))
    return _stamp(layout, mask, LIGHT, shape * opacity, DARK)


def outline(layout: Layout, ink: tuple[int, int, int], opacity: float, wider: float = 0.0) -> Stamp:
    """Words with a thin line of the opposite colour around them.

    Args:
        layout: where.
        ink: LIGHT or DARK.
        opacity: of the line, 0 to 1.
        wider: pixels that the line is wider than usual.
    """
    mask = _within(layout)
    reach = layout.letters.stroke + wider
    line = _grown(mask, reach)
    return _stamp(layout, mask, ink, line * opacity, DARK if ink == LIGHT else LIGHT)


def _coverage(image: Image.Image) -> Mask:
    """A picture of one channel as float32 (h, w) in [0, 1]."""
    return np.asarray(image).astype(np.float32) / np.float32(255)


def _within(layout: Layout) -> Mask:
    """The letters' mask, as large as the stamp."""
    (x0, y0, x1, y1), (left, top, right, bottom) = layout.area, layout.box
    return np.pad(layout.letters.mask, ((top - y0, y1 - bottom), (left - x0, x1 - right)))


def _grown(mask: Mask, reach: float) -> Mask:
    """A mask grown by `reach` pixels on all sides, with a soft edge."""
    steps, high, wide = math.ceil(reach), *mask.shape
    padded = np.pad(mask, steps)
    grown = np.zeros_like(mask)
    for dy in range(-steps, steps + 1):
        for dx in range(-steps, steps + 1):
            near = min(1.0, max(0.0, reach + 0.5 - math.hypot(dx, dy)))
            if near > 0:
                moved = padded[steps + dy : steps + dy + high, steps + dx : steps + dx + wide]
                grown = np.maximum(grown, near * moved)
    return grown


def _stamp(
    layout: Layout, mask: Mask, ink: tuple[int, int, int], back: Mask, ground: tuple[int, int, int]
) -> Stamp:
    behind = (1 - mask) * back  # (h, w)
    colour = mask[..., None] * np.array(ink, np.float32)
    colour += behind[..., None] * np.array(ground, np.float32)
    ring = (_grown((mask > 0.5).astype(np.float32), 1.5) > 0) & (mask < 0.02)
    return Stamp(layout.area, colour, (mask + behind)[..., None], mask, ring, ink)

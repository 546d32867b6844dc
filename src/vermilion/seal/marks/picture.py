"""A mark that is seen in a picture: words at an edge or corner.

By GB 45438-2025 they are at least 5 % of the shortest side high. What counts is the drawn box of
the letters. They stand out from what is beside them by a contrast of at least 4.5:1 (WCAG 2.2,
1.4.3).

Shape letters: N frames, H W of a picture, h w of the box that the mark covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.seal.marks import PLACES, Place, checked
from vermilion.seal.marks.font import require
from vermilion.seal.marks.stamp import (
    DARK,
    LIGHT,
    Box,
    Layout,
    Stamp,
    Style,
    lay_out,
    outline,
    plate,
)

CONTRAST = 4.5  # the least
CALM = 6.0  # contrast from which words need no plate: what is encoded afterwards costs some
_WORST = 1  # percentile of the pixels beside the letters whose contrast counts
_PLATE, _PLATE_ON_CLEAR = 0.66, 0.82  # opacity

# Linear light of an sRGB value (IEC 61966-2-1), for luminance as WCAG defines it.
_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4)
_WEIGHTS = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, slots=True)
class Mark:
    """What was drawn.

    Attributes:
        words: that it says.
        place: where it stands.
        style: "plate" or "outline".
        box: of the letters, in pixels: left, top, right, bottom.
        area: everything that changed, likewise.
        height: of the letters, in pixels.
        share: that height over the shortest side.
        contrast: of the letters against the pixels beside them, 1 to 21; of a picture with clear
            parts, the lower one of those on white and on black.
    """

    words: str
    place: Place
    style: Style
    box: Box
    area: Box
    height: int
    share: float
    contrast: float


class Marked(NamedTuple):
    """A marked picture, what was drawn, and how it looks."""

    pixels: NDArray[np.uint8]
    mark: Mark
    stamp: Stamp


def draw(
    pixels: NDArray[np.uint8],
    words: str,
    *,
    place: Place = "bottom-right",
    style: Style = "auto",
) -> Marked:
    """Write words into a picture; frames of one that moves all get the same.

    Args:
        pixels: uint8 (H, W, 4) with straight alpha, or (N, H, W, 4); stays as it is.
        words: one line that names AI and the act.
        place: an edge or corner.
        style: "plate", light words on a dark plate; "outline", words with a thin line around
            them, and a plate where no such line gives the contrast; "auto", an outline where the
            picture is calm, else a plate.

    Raises:
        InputError: the picture is too small, or a sign is not in the font.
    """
    frames = pixels if pixels.ndim == 4 else pixels[None]
    height, width = frames.shape[1:3]
    layout, stamp, style, contrast = compose(frames, words, place, style)
    mark = Mark(
        words=words.strip(),
        place=place,
        style=style,
        box=layout.box,
        area=layout.area,
        height=layout.letters.height,
        share=layout.letters.height / min(height, width),
        contrast=round(contrast, 2),
    )
    return Marked(stamp.onto(pixels), mark, stamp)


def compose(
    frames: NDArray[np.uint8], words: str, place: Place, style: Style
) -> tuple[Layout, Stamp, Style, float]:
    """Choose how words stand in a picture: layout, stamp, style that was taken, contrast.

    Args:
        frames: uint8 (N, H, W, 3 or 4).
        words: as in `draw`.
        place: as in `draw`.
        style: as in `draw`.
    """
    words = require(checked(words))
    if place not in PLACES:
        raise InputError(f"mark: place must be one of {', '.join(PLACES)} (found {place!r})")
    if style not in ("auto", "plate", "outline"):
        raise InputError(f"mark: style must be auto, plate or outline (found {style!r})")
    layout = lay_out(frames.shape[2], frames.shape[1], words, place)
    x0, y0, x1, y1 = layout.area
    part = frames[:, y0:y1, x0:x1]  # (N, h, w, 3 or 4)
    for name, stamp in _choices(layout, part, style):
        contrast = _drawn_contrast(part, stamp)
        if contrast >= CONTRAST:
            return layout, stamp, name, contrast
    raise AssertionError("an opaque plate has contrast enough")


def _choices(
    layout: Layout, part: NDArray[np.uint8], style: Style
) -> Iterator[tuple[Style, Stamp]]:
    """What could be drawn over a part of a picture (N, h, w, 3 or 4), best first."""
    clear = part.shape[-1] == 4 and bool((part[..., 3] < 250).any())
    if style != "plate":
        contrast, ink = max((_against(part, ink), ink) for ink in (LIGHT, DARK))
        if contrast >= CALM and not clear:
            yield "outline", outline(layout, ink, 0.5)
        if style == "outline":
            for wider in (0.0, 0.5, 1.0, 1.5):
                yield "outline", outline(layout, ink, 1.0, wider)
    for opacity in (_PLATE_ON_CLEAR if clear else _PLATE, 0.9, 1.0):
        yield "plate", plate(layout, opacity)


def luminance(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Relative luminance (WCAG 2.2) of sRGB colours: uint8 (..., 3) to (...), 0 to 1."""
    light: NDArray[np.float64] = _LINEAR[colours] @ _WEIGHTS
    return light


def _against(part: NDArray[np.uint8], ink: tuple[int, int, int]) -> float:
    """Contrast of an ink with the worst hundredth of what lies there: (..., 3 or 4)."""
    ratios = []
    for ground in (0, 255):
        seen = _flat(part, ground)
        own, other = float(luminance(np.array(ink, np.uint8))), luminance(seen)
        high, low = np.maximum(own, other), np.minimum(own, other)
        ratios.append(np.percentile((high + 0.05) / (low + 0.05), _WORST))
        if part.shape[-1] == 3:
            break
    return float(min(ratios))


def _drawn_contrast(part: NDArray[np.uint8], stamp: Stamp) -> float:
    """Contrast of the drawn letters with the pixels beside them, in the worst frame."""
    return min(_against(stamp.over(frame)[stamp.ring], stamp.ink) for frame in part)


def _flat(part: NDArray[np.uint8], ground: int) -> NDArray[np.uint8]:
    """What is seen of pixels with alpha on a grey ground: (..., 3)."""
    if part.shape[-1] == 3:
        return part
    alpha = part[..., 3:].astype(np.float32) / 255
    return np.rint(part[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)

"""Drawings made into square pictures: drawn large, reduced, colours not multiplied by alpha.

S size of the picture, F factor that it is drawn larger by.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vermilion.data.alpha import straight
from vermilion.errors import MissingExtraError

# A picture of 64 px that is drawn at 256 px and averaged differs from one drawn at 1,024 px by
# about a fifth of what one drawn at 64 px differs by (docs/drawings.md).
_DRAWN, _LEAST_FACTOR = 256, 2
_MARGIN = 0.03  # of the picture's side, around what is trimmed
_FAINT = 24  # alpha out of 255; a picture that has no more is empty
_LEAST_COVER = 0.004
_COARSE, _LEVELS = 8, 8  # side and steps of a value of what near-duplicates are found by


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Attributes:
        png: the file: RGBA, straight alpha.
        exact: hash of its pixels.
        near: hash of a coarse look: equal ones look the same.
    """

    png: bytes
    exact: str
    near: str


@cache
def rasteriser() -> tuple[ModuleType, Any]:
    """The rasteriser's module and its fonts: none, so that a machine's own change nothing.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import svg2png_py  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("the corpus of drawings", "drawings") from None
    return svg2png_py, svg2png_py.FontDatabase()


def picture(content: bytes, size: int, *, trimmed: bool = False) -> Picture | str:
    """A drawing's picture, or in a few words why there is none.

    Args:
        content: an SVG document or a WebP file.
        size: of the picture in px.
        trimmed: cut to what is drawn.

    Raises:
        MissingExtraError: the rasteriser is not installed.
    """
    factor = max(_LEAST_FACTOR, -(-_DRAWN // size))
    try:
        if content.startswith(b"RIFF"):
            pixels = np.asarray(opened(content, size), np.float32)
        else:
            side = size * factor
            if trimmed:
                large = trim(drawn(content, side * 2, around=0.5), side)
            else:
                large = drawn(content, side)
            pixels = np.asarray(large.reduce(factor), np.float32)  # (S, S, 4)
    except (ValueError, RuntimeError, OSError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    if (pixels[..., 3] > _FAINT).mean() < _LEAST_COVER:
        return "nothing is drawn in it"
    colours = straight(pixels)
    file = io.BytesIO()
    Image.fromarray(colours, "RGBA").save(file, "PNG", compress_level=6)
    return Picture(file.getvalue(), hashlib.sha256(colours.tobytes()).hexdigest(), coarse(pixels))


_ROOT = re.compile(r"<svg\b[^>]*>|<\w+:svg\b[^>]*>")
_SIZES = re.compile(
    r"\s(width|height|viewBox|preserveAspectRatio|overflow)\s*=\s*(\"[^\"]*\"|'[^']*')"
)


def drawn(content: bytes, side: int, *, around: float = 0.0) -> Image.Image:
    """A document drawn into the middle of a square, premultiplied (mode RGBa).

    Args:
        content: an SVG document in UTF-8.
        side: of the square in px.
        around: how much is drawn beside the document's page, as a part of it on each side.

    Raises:
        ValueError, RuntimeError: it is no SVG that can be drawn.
        MissingExtraError: the rasteriser is not installed.
    """
    module, fonts = rasteriser()
    text = content.decode("utf-8")
    root = _ROOT.search(text)
    if root is None:
        raise ValueError("there is no svg in it")
    tag = root[0]
    box = {name: value[1:-1] for name, value in _SIZES.findall(tag)}.get("viewBox")
    if box is None:
        left, top = 0.0, 0.0
        width, height = map(float, module.svg_intrinsic_size(text, fonts))
    else:
        left, top, width, height = map(float, box.replace(",", " ").split())
    left, top = left - width * around, top - height * around
    width, height = width * (1 + 2 * around), height * (1 + 2 * around)
    bare, end = _SIZES.sub("", tag).rstrip("/>"), "/>" if tag.endswith("/>") else ">"
    framed = f'{bare} width="{side}" height="{side}" viewBox="{left} {top} {width} {height}"{end}'
    data, across, down = module.svg_to_rgba(
        text[: root.start()] + framed + text[root.end() :], fonts
    )
    if (across, down) != (side, side):
        raise ValueError(f"it is drawn at {across} x {down} px instead of {side} x {side} px")
    return Image.frombuffer("RGBa", (across, down), data, "raw", "RGBa", 0, 1)


def opened(content: bytes, size: int) -> Image.Image:
    """A picture file reduced to fit into a square, premultiplied (mode RGBa)."""
    with Image.open(io.BytesIO(content)) as file:
        image = file.convert("RGBA").convert("RGBa")
    return _centred(image, size, size)


def trim(image: Image.Image, side: int) -> Image.Image:
    """What is drawn, enlarged or reduced to fill a square but for a margin.

    Args:
        image: premultiplied (mode RGBa).
        side: of the square in px.

    Raises:
        ValueError: nothing is drawn.
    """
    solid = np.asarray(image)[..., 3] > _FAINT
    if not solid.any():
        raise ValueError("nothing is drawn in it")
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    box = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    return _centred(box, round(side * (1 - 2 * _MARGIN)), side)


def _centred(image: Image.Image, inner: int, side: int) -> Image.Image:
    """A picture reduced or enlarged to a longest side, in the middle of a clear square."""
    scale = inner / max(image.size)
    fitted = tuple(max(1, round(length * scale)) for length in image.size)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    out = Image.new("RGBa", (side, side))
    out.paste(
        image.resize((fitted[0], fitted[1]), how),
        ((side - fitted[0]) // 2, (side - fitted[1]) // 2),
    )
    return out


def coarse(pixels: NDArray[np.float32]) -> str:
    """A hash of what a picture looks like from afar.

    Args:
        pixels: premultiplied, 0 to 255, (S, S, 4).
    """
    size = pixels.shape[0] // _COARSE * _COARSE
    blocks = pixels[:size, :size].reshape(_COARSE, size // _COARSE, _COARSE, size // _COARSE, 4)
    levels = (blocks.mean((1, 3)) * (_LEVELS / 256)).astype(np.uint8)  # (8, 8, 4)
    return hashlib.sha256(levels.tobytes()).hexdigest()[:16]

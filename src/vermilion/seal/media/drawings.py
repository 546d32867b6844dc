"""A drawing (SVG) as pixels, for its fingerprint: small, on white, without fonts and without files.

It needs the extra `drawings`. What a stranger's drawing could make slow or large is not drawn.
"""

from __future__ import annotations

import re
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
LARGEST = 2_000_000  # bytes
_MOST = 16  # elements that draw others again: a few in one another are thousands
_AGAIN = re.compile(rb"<(?:[\w.-]+:)?(?:use|pattern|marker|filter|mask|clipPath)[\s/>]")
_FILES = re.compile(rb"<(?:[\w.-]+:)?(?:image|feImage)[\s/>]")
_ROOT = re.compile(r"<(?:[\w.-]+:)?svg[\s>]")


def rendered(svg: bytes) -> NDArray[np.uint8] | None:
    """A drawing, stretched to a square: (SIDE, SIDE, 3).

    None: what draws it is not installed, it shows nothing or one colour alone, it holds pictures,
    it is too large or too deep in repeats, or it cannot be drawn.

    Args:
        svg: UTF-8; somebody has looked already that it is an SVG without entities.
    """
    module = _module()
    if module is None or len(svg) > LARGEST or _FILES.search(svg) is not None:
        return None
    if len(_AGAIN.findall(svg)) > _MOST:
        return None
    rasteriser, fonts = module
    try:
        text = svg.decode("utf-8-sig")
        root = _ROOT.search(text)
        if root is None:
            return None
        width, height = rasteriser.svg_intrinsic_size(text, fonts)
        page = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}"'
            f' viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        )
        inside = text[root.start() :]
        data, across, down = rasteriser.svg_to_rgba(f"{page}{inside}</svg>", fonts)
    except (ValueError, RuntimeError):
        return None
    drawn = Image.frombuffer("RGBa", (across, down), data, "raw", "RGBa", 0, 1).convert("RGBA")
    shown = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    pixels = np.asarray(shown)
    return None if (pixels == pixels[0, 0]).all() else pixels


@cache
def _module() -> tuple[ModuleType, Any] | None:
    """The rasteriser and no fonts, so that a machine's own change nothing."""
    try:
        import svg2png_py  # noqa: PLC0415 - an optional extra
    except ImportError:
        return None
    return svg2png_py, svg2png_py.FontDatabase()

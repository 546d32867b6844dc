"""Pictures made sharp at any size: traced into drawings (SVG), and enlarged.

A small picture is enlarged smoothly, its colours are brought to a few, each of its pixels gets one
of them, and vtracer finds the outlines. What such a drawing shows as well as the picture itself is
flat, and is enlarged by drawing it; everything else is enlarged by Lanczos' filter. How both
compare with the real thing is measured in docs/painting.md.

H W of a picture.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from vermilion.data.alpha import Pixels, premultiplied, straight
from vermilion.errors import InputError, MissingExtraError
from vermilion.line.colours import assigned, palette_of
from vermilion.line.pixels import resized, rgba

MOST_COLOURS = 24
FLAT = 25.0  # dB: a drawing that shows a picture this well, with no more paths than
FEW = 200  # these, stands in for it
_TRACED = 512  # side, in px, that small pictures are enlarged to before outlines are found
_MOST_PIXELS = 16_000_000
_LARGEST = 1024  # side that larger ones are reduced to
_TRACER: dict[str, Any] = {
    "colormode": "color",
    "hierarchical": "stacked",
    "mode": "spline",
    "filter_speckle": 4,
    "color_precision": 8,
    "layer_difference": 0,
    "corner_threshold": 45,
    "length_threshold": 6.0,
    "max_iterations": 10,
    "splice_threshold": 45,
    "path_precision": 1,
}
_PATH = re.compile(r'<path d="([^"]*)" fill="(#[0-9A-Fa-f]{6})" transform="translate\(([^"]*)\)"/>')


@dataclass(frozen=True, slots=True)
class Drawing:
    """A traced picture.

    Attributes:
        svg: the document: paths of one colour each, nothing behind them.
        width: of its page, in px.
        height: of its page, in px.
        colours: how many it has.
        paths: how many it has.
    """

    svg: str
    width: int
    height: int
    colours: int
    paths: int


def trace(pixels: Pixels, colours: int = MOST_COLOURS) -> Drawing:
    """Trace a picture into a drawing: the same bytes each time.

    What is less than half opaque becomes clear, the rest opaque.

    Args:
        pixels: (H, W, 3) or (H, W, 4), straight alpha.
        colours: how many it may have at most, 1 to 256.

    Raises:
        InputError: it is no picture.
        MissingExtraError: vtracer is not installed.
    """
    whole = rgba(pixels)
    height, width = whole.shape[:2]
    size = page(width, height)
    palette = palette_of(whole, colours)
    flat = assigned(whole, palette, size)
    # vtracer takes clear pixels for clear only where a line of the picture has many of them, and
    # for black elsewhere. A clear line above sees to it.
    above = int((flat[..., 3] == 0).any())
    flat = np.pad(flat, ((above, 0), (0, 0), (0, 0)))
    sink = io.BytesIO()
    Image.fromarray(flat).save(sink, "PNG", compress_level=1)
    traced = _vtracer().convert_raw_image_to_svg(sink.getvalue(), img_format="png", **_TRACER)
    return _clean(traced, size, above)


def page(width: int, height: int, size: int | None = None) -> tuple[int, int]:
    """Width and height, in px, of the page on which a picture of these sides is drawn.

    Args:
        width: of the picture.
        height: of the picture.
        size: of the page's longer side; None: as it is traced.
    """
    side = max(height, width)
    if size is not None:
        scale = size / side
    elif side < _LARGEST:
        scale = min(-(-_TRACED // side), _LARGEST / side)
    else:
        scale = _LARGEST / side
    return max(1, round(width * scale)), max(1, round(height * scale))


def enlarge(pixels: Pixels, size: int) -> tuple[Pixels, str]:
    """Bring a picture to a size: its longer side has `size` px then.

    Args:
        pixels: (H, W, 3) or (H, W, 4), straight alpha.
        size: in px, 1 or more.

    Returns:
        The picture, (H, W, 4), and how it was done: "as it was", "reduced", "drawn" where it is
        flat, or "filtered".

    Raises:
        InputError: it is no picture.
        MissingExtraError: vtracer or the rasteriser is not installed.
    """
    whole = rgba(pixels)
    height, width = whole.shape[:2]
    target = page(width, height, size)
    if target == (width, height):
        return whole, "as it was"
    if size < max(height, width):
        return resized(whole, target), "reduced"
    drawing = trace(whole)
    if drawing.paths <= FEW and likeness(whole, drawing) >= FLAT:
        return render(drawing.svg, *target), "drawn"
    return resized(whole, target), "filtered"


def likeness(pixels: Pixels, drawing: Drawing) -> float:
    """How well a drawing shows a picture at that one's size: PSNR in dB, alpha included."""
    whole = rgba(pixels)
    height, width = whole.shape[:2]
    drawn = premultiplied(render(drawing.svg, width, height))
    error = float(((drawn - premultiplied(whole)) ** 2).mean())
    return 99.0 if error < 1e-5 else min(99.0, 10 * float(np.log10(255**2 / error)))


def sized(drawing: Drawing, size: int | None) -> Drawing:
    """A drawing whose page's longer side has `size` px where it is shown; None: as it is."""
    if size is None:
        return drawing
    width, height = page(drawing.width, drawing.height, size)
    return replace(drawing, svg=_with_page(drawing.svg, width, height), width=width, height=height)


def _with_page(svg: str, width: int, height: int) -> str:
    """A document of ours with another width and height; what it shows stays."""
    return re.sub(r'width="\d+" height="\d+"', f'width="{width}" height="{height}"', svg, count=1)


def draw(content: bytes) -> Pixels:
    """Draw any SVG document in its own size: (H, W, 4), straight alpha.

    Raises:
        InputError: it is no drawing, or too large.
        MissingExtraError: the rasteriser is not installed.
    """
    module, fonts = _rasteriser()
    try:
        text = content.decode("utf-8")
        width, height = module.svg_intrinsic_size(text, fonts)
        if width * height > _MOST_PIXELS:
            raise InputError(
                f"picture: a drawing of {width:.0f}x{height:.0f} px is too large; make its page"
                " smaller"
            )
        data, across, down = module.svg_to_rgba(text, fonts)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"picture: is no SVG that can be drawn ({error})") from None
    return straight(np.frombuffer(data, np.uint8).reshape(down, across, 4).astype(np.float32))


def render(svg: str, width: int, height: int) -> Pixels:
    """Draw a drawing that `trace` made: (height, width, 4), straight alpha.

    Raises:
        MissingExtraError: the rasteriser is not installed.
    """
    module, fonts = _rasteriser()
    data, across, down = module.svg_to_rgba(_with_page(svg, width, height), fonts)
    drawn = np.frombuffer(data, np.uint8).reshape(down, across, 4)
    return straight(drawn.astype(np.float32))


def _clean(traced: str, size: tuple[int, int], above: int) -> Drawing:
    """The document of vtracer without its own header and without the lines above the picture."""
    paths = _PATH.findall(traced)
    lines = []
    for shape, fill, place in paths:
        across, down = map(float, place.split(","))
        place = f"{across:g},{down - above:g}"
        lines.append(
            f'<path fill="{fill.lower()}" transform="translate({place})" d="{shape.strip()}"/>'
        )
    width, height = size
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">'
    )
    return Drawing(
        svg="\n".join([head, *lines, "</svg>"]) + "\n",
        width=width,
        height=height,
        colours=len({fill for _, fill, _ in paths}),
        paths=len(paths),
    )


@cache
def _vtracer() -> ModuleType:
    try:
        import vtracer  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise MissingExtraError("tracing a picture", "drawings") from None
    module: ModuleType = vtracer
    return module


@cache
def _rasteriser() -> tuple[ModuleType, Any]:
    """The rasteriser and its fonts: none, so that a machine's own change nothing."""
    try:
        import svg2png_py  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise MissingExtraError("enlarging a drawing", "drawings") from None
    return svg2png_py, svg2png_py.FontDatabase()

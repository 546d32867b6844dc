"""Pictures made sharp at any size: traced into drawings (SVG), and enlarged.

A small picture is enlarged smoothly, its colours are brought to a few, each of its pixels gets one
of them, and vtracer finds the outlines. What such a drawing shows as well as the picture itself is
flat, and is enlarged by drawing it; everything else is enlarged by Lanczos' filter. How both
compare with the real thing is measured in docs/painting.md.

H W of a picture, K colours, S side that outlines are found at.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vermilion.errors import InputError, MissingExtraError

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MOST_COLOURS = 24
FLAT = 25.0  # dB; a drawing that shows a picture this well stands in for it
_TRACED = 512  # side, in px, that small pictures are enlarged to before outlines are found
_LARGEST = 1024  # side that larger ones are reduced to
_SAME = 20.0  # colours nearer than this, of 255, are one
_EVEN = 24.0  # of 255: where neighbours differ by less, a pixel tells a colour of its own
_MIXED = 32.0  # of 255: a pixel nearer to a mixture of its neighbours' colours is that mixture
_RARE = 0.004  # share of the pixels that a colour needs
_OPAQUE = 128
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
    side = max(height, width)
    scale = min(-(-_TRACED // side), _LARGEST / side) if side < _LARGEST else _LARGEST / side
    size = max(1, round(width * scale)), max(1, round(height * scale))
    palette = _palette(whole, colours)
    flat = _assigned(whole, palette, size)
    sink = io.BytesIO()
    Image.fromarray(flat).save(sink, "PNG", compress_level=1)
    traced = _vtracer().convert_raw_image_to_svg(sink.getvalue(), img_format="png", **_TRACER)
    return _clean(traced, size)


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
    scale = size / max(height, width)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    if target == (width, height):
        return whole, "as it was"
    if scale < 1:
        return resized(whole, target), "reduced"
    drawing = trace(whole)
    if likeness(whole, drawing) >= FLAT:
        return render(drawing.svg, *target), "drawn"
    return resized(whole, target), "filtered"


def likeness(pixels: Pixels, drawing: Drawing) -> float:
    """How well a drawing shows a picture at that one's size: PSNR in dB, alpha included."""
    whole = rgba(pixels)
    height, width = whole.shape[:2]
    drawn = _premultiplied(render(drawing.svg, width, height))
    error = float(((drawn - _premultiplied(whole)) ** 2).mean())
    return 99.0 if error < 1e-5 else min(99.0, 10 * float(np.log10(255**2 / error)))


def sized(drawing: Drawing, size: int | None) -> Drawing:
    """A drawing whose page's longer side has `size` px where it is shown; None: as it is."""
    if size is None:
        return drawing
    scale = size / max(drawing.width, drawing.height)
    width, height = (max(1, round(side * scale)) for side in (drawing.width, drawing.height))
    return replace(drawing, svg=_with_page(drawing.svg, width, height), width=width, height=height)


def _with_page(svg: str, width: int, height: int) -> str:
    """A document of ours with another width and height; what it shows stays."""
    return re.sub(r'width="\d+" height="\d+"', f'width="{width}" height="{height}"', svg, count=1)


def render(svg: str, width: int, height: int) -> Pixels:
    """Draw a drawing that `trace` made: (height, width, 4), straight alpha.

    Raises:
        MissingExtraError: the rasteriser is not installed.
    """
    module, fonts = _rasteriser()
    sized = re.sub(r'width="\d+" height="\d+"', f'width="{width}" height="{height}"', svg, count=1)
    data, across, down = module.svg_to_rgba(sized, fonts)
    drawn = np.frombuffer(data, np.uint8).reshape(down, across, 4)
    return _straight(drawn.astype(np.float32))


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture at another size by Lanczos' filter, so that clear parts lend no colour.

    Args:
        pixels: (H, W, 4), straight alpha.
        size: width and height in px.
    """
    return _straight(_filtered(pixels, size))


def _filtered(pixels: Pixels, size: tuple[int, int]) -> Floats:
    """Premultiplied, (H, W, 4), 0 to 255, at another size."""
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel)).resize(size, Image.Resampling.LANCZOS)
        )
        for channel in np.moveaxis(_premultiplied(pixels), -1, 0)
    ]
    out = np.stack(channels, axis=-1).clip(0, 255)
    out[..., :3] = np.minimum(out[..., :3], out[..., 3:])
    return out.astype(np.float32)


def _premultiplied(pixels: Pixels) -> Floats:
    out = pixels.astype(np.float32)
    out[..., :3] *= out[..., 3:] / 255
    return out


def _straight(premultiplied: Floats) -> Pixels:
    """Straight alpha; where nothing is drawn colours are 0."""
    alpha = premultiplied[..., 3:].round()
    colour = np.divide(
        premultiplied[..., :3] * 255,
        premultiplied[..., 3:],
        out=np.zeros_like(premultiplied[..., :3]),
        where=alpha > 0,
    )
    return np.concatenate([colour.round().clip(0, 255), alpha], axis=-1).astype(np.uint8)


def _palette(pixels: Pixels, most: int) -> Floats:
    """The colours of a picture, (K, 3), the commonest first.

    Even places count for more: what lies on an edge is a mixture.
    """
    steps = np.zeros(pixels.shape[:2], np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(_premultiplied(pixels), axis=axis)).max(-1)
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


def _assigned(pixels: Pixels, palette: Floats, size: tuple[int, int]) -> Pixels:
    """The picture at another size, (S, S, 4), every pixel clear or of one colour of the palette."""
    smooth = _filtered(pixels, size)
    clear = smooth[..., 3] < _OPAQUE
    colour = _straight(smooth)[..., :3].astype(np.float32)
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


def _clean(traced: str, size: tuple[int, int]) -> Drawing:
    """The document of vtracer without its own header."""
    paths = _PATH.findall(traced)
    lines = [
        f'<path fill="{fill.lower()}" transform="translate({place})" d="{shape.strip()}"/>'
        for shape, fill, place in paths
    ]
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

"""The bytes of a picture file → pixels at the size that training wants.

Sizes are read from the header and limited before anything is decoded; a JPEG that is much larger
than what is wanted is decoded at an eighth, a quarter or half of its size. Of what moves the first
frame is taken. Only formats that Pillow decodes by itself are opened.

Shape letters: H W of a picture, C channels.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vermilion.errors import InputError

Pixels = NDArray[np.uint8]

SUFFIXES = (
    ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .tif .tiff .avif .ppm .pgm .pnm".split()  # noqa: SIM905
)
LARGEST = 80_000_000  # pixels that are decoded of one picture
# A reduced JPEG stays this many times larger than what it is resized to, so that it cannot be told
# from one that was decoded whole.
_GAP = 2.0

Resample = Literal["lanczos", "bicubic", "bilinear", "box", "nearest"]
Reason = Literal["damaged", "too large"]

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
# EXIF's orientation, tag 0x0112: how a picture has to be turned to be upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
# What Pillow raises on damaged files, its warnings included where they are errors.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    UserWarning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class Unusable(InputError):
    """A picture that cannot be used. The message is the rest of a sentence about its file.

    Attributes:
        kind: of fault.
    """

    def __init__(self, kind: Reason, message: str) -> None:
        super().__init__(message)
        self.kind: Reason = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How pictures are made of files.

    Attributes:
        channels: 3, RGB with what is clear laid on `background`, or 4, RGBA with straight alpha.
        background: the colour behind clear parts, RGB, 0 to 255.
        resample: the filter that resizes.
        max_pixels: the most that are decoded of one picture; of a JPEG after it is reduced.
    """

    channels: int = 3
    background: tuple[int, int, int] = (255, 255, 255)
    resample: Resample = "bicubic"
    max_pixels: int = LARGEST

    def __post_init__(self) -> None:
        if self.channels not in (3, 4):
            raise InputError(f"channels: must be 3 (RGB) or 4 (RGBA), found {self.channels}")
        if len(self.background) != 3 or not all(0 <= v <= 255 for v in self.background):
            raise InputError(
                f"background: must be three numbers from 0 to 255, found {self.background}"
            )
        if self.resample not in _FILTERS:
            raise InputError(f"resample: {self.resample!r} is none of {', '.join(_FILTERS)}")
        if not 1 <= self.max_pixels <= LARGEST:
            raise InputError(f"max_pixels: must be from 1 to {LARGEST} (found {self.max_pixels})")


def decode(content: bytes, shape: tuple[int, int] | None, how: Decoding) -> Pixels:
    """Pixels of a picture file, upright.

    Args:
        content: the file.
        shape: H and W that it is resized to, after its middle is cut to their proportions; None:
            as large as it is.
        how: channels, background, filter and limit.

    Returns:
        uint8 (H, W, C), sRGB; straight alpha as the fourth of four channels.

    Raises:
        Unusable: it is damaged, of no known format, or too large.
    """
    try:
        with _opened(content) as image:
            box = _reduced(image, shape, how.max_pixels)
            image.load()
            upright, box = _turned(image, box)
            colours = _colours(upright, content)
            if shape is not None:
                colours = _cut(colours, box, shape, how.resample)
            return _channels(colours, how)
    except Unusable:
        raise
    except _BROKEN as error:
        raise _damaged(error) from None


def measure(content: bytes) -> tuple[int, int]:
    """H and W of a picture file when it stands upright, from its header.

    Raises:
        Unusable: as `decode`, but for the limit.
    """
    try:
        with _opened(content) as image:
            wide, high = image.size
            # A TIFF's size is that of the upright picture; a PNG may name its orientation only
            # after its pixels, and is then taken as it lies.
            known = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            turned = known and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (wide, high) if turned else (high, wide)
    except Unusable:
        raise
    except _BROKEN as error:
        raise _damaged(error) from None


def _damaged(error: BaseException) -> Unusable:
    reason = str(error).split("\n")[0] or type(error).__name__
    return Unusable("damaged", f"the picture is damaged ({reason})")


def _opened(content: bytes) -> Image.Image:
    """The file with its header read.

    The plug-ins are called themselves: Image.open would refuse a large JPEG by its full size, also
    where only a reduced one will be decoded.
    """
    file, start = io.BytesIO(content), content[:16]
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile(file)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile(file)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        _webp_limit(content)
        return WebPImagePlugin.WebPImageFile(file)
    if start.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile(file)
    if start.startswith((b"II*\0", b"MM\0*")):
        return TiffImagePlugin.TiffImageFile(file)
    if start.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile(file)
    if start[4:8] == b"ftyp" and b"avi" in content[8:64]:
        return AvifImagePlugin.AvifImageFile(file)
    if start[:1] == b"P" and start[1:2] in b"123456":
        return PpmImagePlugin.PpmImageFile(file)
    if not content:
        raise Unusable("damaged", "the file is empty")
    raise Unusable("damaged", "the file is no picture, or its beginning is lost")


def _webp_limit(content: bytes) -> None:
    """Check a WebP's size by hand: its decoder takes memory for all of it when it is opened."""
    kind, size = content[12:16], (0, 0)
    if kind == b"VP8X" and len(content) >= 30:
        size = (
            int.from_bytes(content[24:27], "little") + 1,
            int.from_bytes(content[27:30], "little") + 1,
        )
    elif kind == b"VP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if size[0] * size[1] > LARGEST:
        raise _too_large(*size, LARGEST)


def _too_large(wide: int, high: int, limit: int) -> Unusable:
    return Unusable(
        "too large",
        f"the picture has {wide} x {high} pixels, more than {limit / 1e6:.3g} million",
    )


Box = tuple[float, float, float, float]


def _reduced(image: Image.Image, shape: tuple[int, int] | None, limit: int) -> Box:
    """Limit what will be decoded. Returns which part of that is the picture: left, top, right, low.

    A reduced JPEG is rounded up to whole pixels, so that its edge lies within the last ones.
    """
    wide, high = image.size
    box: Box = (0.0, 0.0, float(wide), float(high))
    if isinstance(image, JpegImagePlugin.JpegImageFile) and shape is not None:
        # Which side is which is not settled before the picture is turned.
        least = round(_GAP * max(shape))
        drawn = image.draft(None, (least, least)) if min(wide, high) >= 2 * least else None
        box = box if drawn is None else drawn[1]
        # A progressive one is held whole in memory, whatever its scale.
        if image.info.get("progressive") and wide * high > LARGEST:
            raise _too_large(wide, high, LARGEST)
    if image.size[0] * image.size[1] > limit:
        raise _too_large(wide, high, limit)
    return box


def _turned(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    orientation = image.getexif().get(_ORIENTATION, 1)
    if image.format == "TIFF" or orientation not in _UPRIGHT:  # Pillow turns a TIFF by itself
        return image, box
    wide, high = image.size
    left, top, right, low = box
    if orientation in (2, 3, 7, 8):
        # TRANSVERSE mirrors both; ROTATE_90 turns left, so that the right edge comes up.
        left, right = wide - right, wide - left
    if orientation in (3, 4, 6, 7):
        top, low = high - low, high - top
    if orientation >= 5:
        left, top, right, low = top, left, low, right
    return image.transpose(_UPRIGHT[orientation]), (left, top, right, low)


def _colours(image: Image.Image, content: bytes) -> Image.Image:
    """The picture in one of the modes L, LA, RGB and RGBA."""
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image, clear)
    if image.mode in ("I", "F"):
        raise Unusable("damaged", "the picture has 32 bits a channel, whose range is not known")
    if image.mode in ("CMYK", "LAB"):
        return _printed(image)
    if image.mode == "RGB" and isinstance(clear, tuple) and image.format == "PNG":
        if content[24] == 16:  # IHDR's bit depth: the pixels were brought to 8, this was not
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        return image.convert("RGBA")
    if clear is not None or image.mode in ("P", "PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_sixteen_bits(image: Image.Image, clear: object) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)  # (H, W)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _printed(image: Image.Image) -> Image.Image:
    """Bring the colours of print into those of a screen, by the file's profile if it has one."""
    icc = image.info.get("icc_profile")
    if not icc and image.mode == "CMYK":
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc) if icc else ImageCms.createProfile("LAB"))
        target = ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except ImageCms.PyCMSError:
        raise Unusable(
            "damaged", f"the colour profile does not fit the picture's {image.mode} colours"
        ) from None
    if shown is None:
        raise Unusable("damaged", "the colour profile gives no picture")
    return shown


def _cut(image: Image.Image, box: Box, shape: tuple[int, int], resample: Resample) -> Image.Image:
    """The middle of the box in the proportions of the shape, resized to it in one go."""
    high, wide = shape
    left, top, right, low = box
    scale = min((right - left) / wide, (low - top) / high)
    x, y = (right - left - scale * wide) / 2, (low - top - scale * high) / 2
    part = (
        left + max(0.0, x),
        top + max(0.0, y),
        min(right, left + x + scale * wide),
        min(low, top + y + scale * high),
    )
    # Pillow multiplies colours by alpha before it resizes, and divides after.
    return image.resize((wide, high), _FILTERS[resample], box=part, reducing_gap=3.0)


def _channels(image: Image.Image, how: Decoding) -> Pixels:
    clear = image.mode in ("LA", "RGBA")
    if how.channels == 4:
        return np.array(image.convert("RGBA"))
    if not clear:
        return np.array(image.convert("RGB"))
    behind = Image.new("RGBA", image.size, (*how.background, 255))
    return np.array(Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB"))

"""Picture files to pixels and back: PNG, JPEG, WebP, GIF, TIFF, AVIF, still and moving.

Sizes are limited before anything is decoded. What a file says about itself (EXIF, XMP, text) is
not taken along, only what its pixels need: orientation, which is applied, colour profile,
resolution, times.

Shape letters: N frames, H W of a picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, UnidentifiedImageError

from vermilion.errors import InputError
from vermilion.seal.formats import Format
from vermilion.seal.media import png

Pixels = NDArray[np.uint8]

LARGEST = 80_000_000  # pixels of all frames together: 320 MB
MOST_FRAMES = 2_000
LARGEST_PROFILE = 4_000_000  # bytes

_PLUGINS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "gif": "GIF",
    "tiff": "TIFF",
    "avif": "AVIF",
}
_ORIENTATION = 0x0112  # the tag of EXIF
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
Tables = tuple[dict[int, list[int]], int]
# What Pillow raises on damaged files, its warnings included where they are errors.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    RuntimeError,
    UserWarning,
    struct.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in memory.

    Attributes:
        frames: uint8 (N, H, W, 4), sRGB or what `icc` says, straight alpha. Of a moving picture
            every frame is whole; of a TIFF they are its pages.
        durations: how long each frame is shown, in milliseconds; empty for one that stands still.
        loop: how often a moving picture is shown again; 0 is for ever, None never.
        icc: the colour profile, or None.
        dpi: pixels per inch across and down, or None.
        grey: whether the file had one channel for its colours.
        bits: of a channel in the file; above 8 they were brought to 8.
        lossless: whether the file kept every pixel as it was.
        cover: whether the first frame is only for readers that show no movement (PNG).
        tables: a JPEG's quantisation tables and subsampling, to write it as good as it was.
    """

    frames: Pixels
    durations: tuple[int, ...] = ()
    loop: int | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    grey: bool = False
    bits: int = 8
    lossless: bool = True
    cover: bool = False
    tables: Tables | None = None

    @property
    def clear(self) -> bool:
        """Whether something can be seen through."""
        return bool((self.frames[..., 3] < 255).any())

    def with_frames(self, frames: Pixels) -> Picture:
        """The same picture with other pixels: uint8 (N, H, W, 4)."""
        return replace(self, frames=frames)


def decode(content: bytes, form: Format) -> Picture:
    """Read a picture file.

    Args:
        content: the file.
        form: its format; a file of another is refused.

    Raises:
        InputError: it is damaged, too large, or not of this format.
    """
    try:
        with Image.open(io.BytesIO(content), formats=[_plugin(form)]) as image:
            return _decode(image, content, form)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(_too_large("what its header says")) from None
    except UnidentifiedImageError:
        raise InputError(f"picture: is no {form.suffix} file, or its beginning is lost") from None
    except _DAMAGED as error:
        raise InputError(
            f"picture: the file is damaged or no {form.suffix} file ({error}); export it again"
        ) from None


def _plugin(form: Format) -> str:
    if form.suffix not in _PLUGINS:
        raise InputError(
            f"picture: .{form.suffix} is no picture of pixels; these are: {', '.join(_PLUGINS)}"
        )
    return _PLUGINS[form.suffix]


def _too_large(what: str) -> str:
    return (
        f"picture: {what} is more than {LARGEST // 1_000_000} million pixels or {MOST_FRAMES}"
        " frames; make it smaller"
    )


def _decode(image: Any, content: bytes, form: Format) -> Picture:
    width, height = image.size
    if width * height > LARGEST:
        raise InputError(_too_large(f"{width}x{height}"))
    # What a camera adds to a JPEG, such as a preview, is no frame of it.
    count = 1 if form.suffix == "jpg" else int(getattr(image, "n_frames", 1))
    if count > MOST_FRAMES or count * width * height > LARGEST:
        raise InputError(_too_large(f"{count} x {width}x{height}"))
    image.seek(0)
    mode, icc = image.mode, image.info.get("icc_profile") or None
    if icc is not None and len(icc) > LARGEST_PROFILE:
        raise InputError("picture: its colour profile is larger than 4 MB; take it out")
    facts = {
        "dpi": _dpi(image),
        "bits": _bits(image, content, form),
        "lossless": _lossless(image, content, form),
        "tables": _tables(image),
        "loop": image.info.get("loop"),
        "cover": bool(image.info.get("default_image")) and count > 1,
    }
    frames, durations = [], []
    for number in range(count):
        image.seek(number)
        if image.size != (width, height):
            raise InputError("picture: its pages differ in size; split it and seal each page")
        frames.append(_rgba(image, icc))
        durations.append(round(image.info.get("duration") or 0))
    moving = count > 1 and form.suffix != "tiff"
    return Picture(
        frames=np.stack(frames),
        durations=tuple(durations) if moving else (),
        icc=None if mode in ("CMYK", "LAB") else icc,
        grey=mode in ("1", "L", "LA", *_SIXTEEN_BIT),
        **(facts if moving else {**facts, "loop": None}),
    )


def _rgba(image: Any, icc: bytes | None) -> Pixels:
    """One frame: (H, W, 4)."""
    if image.getexif().get(_ORIENTATION, 1) != 1:  # else it would be copied
        image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bits(image)
    if image.mode in ("I", "F"):
        raise InputError(
            "picture: has 32 bits a channel, whose range is not known; save it with 8 or 16"
        )
    if image.mode in ("CMYK", "LAB"):
        plain = icc is None and image.mode == "CMYK"
        image = image.convert("RGB") if plain else _to_srgb(image, icc)
    return np.asarray(image.convert("RGBA"))


def _from_sixteen_bits(image: Any) -> Pixels:
    values = np.asarray(image).astype(np.uint32)  # (H, W)
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    alpha = np.full_like(grey, 255)
    if isinstance(hidden := image.info.get("transparency"), int):
        alpha[values == hidden] = 0
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _to_srgb(image: Any, icc: bytes | None) -> Any:
    """Bring the colours of print into those of a screen."""
    try:
        source: Any = (
            ImageCms.createProfile("LAB")
            if icc is None
            else ImageCms.ImageCmsProfile(io.BytesIO(icc))
        )
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        raise InputError(
            f"picture: its colour profile does not fit its {image.mode} colours; save it as RGB"
        ) from None


def _dpi(image: Any) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    if image.format == "TIFF" and 282 not in image.tag_v2:  # XResolution
        return None
    if found is None or not all(np.isfinite(float(v)) and float(v) > 0 for v in found):
        return None
    return (float(found[0]), float(found[1]))


def _bits(image: Any, content: bytes, form: Format) -> int:
    if form.suffix == "png":
        return max(8, content[24])  # IHDR's bit depth
    if form.suffix == "tiff":
        return int(max(8, *image.tag_v2.get(258, (8,))))  # BitsPerSample
    return 8


def _lossless(image: Any, content: bytes, form: Format) -> bool:
    if form.suffix == "webp":
        return b"VP8 " not in _webp_chunks(content)
    if form.suffix == "tiff":
        return "jpeg" not in str(image.info.get("compression"))
    return form.suffix in ("png", "gif")


def _webp_chunks(content: bytes) -> set[bytes]:
    """The names of a WebP file's chunks, those within its frames included."""
    names, position = set(), 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        names.add(name)
        # A frame's own chunks begin after 16 bytes of where and how long.
        position += 24 if name == b"ANMF" else 8 + size + size % 2
    return names


def _tables(image: Any) -> Tables | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode == "CMYK":
        return None
    tables = {number: list(table) for number, table in image.quantization.items()}
    return tables, max(0, JpegImagePlugin.get_sampling(image))


def encode(picture: Picture, form: Format, quality: int | None = None) -> bytes:
    """Write a picture file.

    Args:
        picture: what to write. Clear parts become white where the format has none.
        form: its format.
        quality: 1 to 100 for JPEG, WebP and AVIF. None: what loses least; a JPEG that came from
            one is written with the tables of that one, any other with 95 and full colour, a WebP
            without loss if its source was.

    Raises:
        InputError: the format cannot hold it.
    """
    plugin = _plugin(form)
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality: must be 1 to 100 (found {quality})")
    if len(picture.frames) > 1 and form.suffix == "jpg":
        raise InputError("picture: a .jpg holds one frame; choose webp, gif or png")
    if len(picture.frames) > 1 and bool(picture.durations) == (form.suffix == "tiff"):
        raise InputError(
            f"picture: a .{form.suffix} cannot hold it; pages need tiff, what moves does not"
        )
    grey = picture.grey and all(bool((f[..., :3] == f[..., :1]).all()) for f in picture.frames)
    options: dict[str, Any] = {}
    # A profile of grey fits no picture with colours, and the other way round.
    if picture.icc is not None and (picture.icc[16:20] == b"GRAY") == grey:
        options["icc_profile"] = picture.icc
    if picture.dpi is not None and form.suffix in ("png", "jpg", "tiff"):
        options["dpi"] = picture.dpi
    if form.suffix == "gif":
        images = [_indexed(frame) for frame in picture.frames]
    else:
        images = [_image(frame, grey, form) for frame in picture.frames]
    options |= _options(picture, form, quality)
    if len(images) > 1:
        options |= {"save_all": True, "append_images": images[1:]} | _times(picture, form)
    if form.suffix == "png" and len(images) == 1:
        return png.encode(np.asarray(images[0]), options.get("icc_profile"), picture.dpi)
    sink = io.BytesIO()
    try:
        images[0].save(sink, plugin, **options)
    except (OSError, ValueError, struct.error) as error:
        high, wide = picture.frames.shape[1:3]
        raise InputError(
            f"picture: .{form.suffix} cannot hold {wide}x{high} pixels ({error}); choose png"
        ) from None
    return sink.getvalue()


def _options(picture: Picture, form: Format, quality: int | None) -> dict[str, Any]:
    if form.suffix == "jpg":
        if quality is None and picture.tables is not None:
            tables, sampling = picture.tables
            return {"qtables": tables, "subsampling": sampling, "optimize": True}
        return {"quality": quality or 95, "subsampling": 0, "optimize": True}
    if form.suffix == "webp":
        if quality is None and picture.lossless:
            return {"lossless": True, "exact": True}
        return {"quality": quality or 95, "method": 4}
    if form.suffix == "avif":
        # More threads would write other bytes.
        return {"quality": quality or 92, "subsampling": "4:4:4", "max_threads": 1}
    if form.suffix == "tiff":
        return {"compression": "tiff_deflate"}
    if form.suffix == "gif":
        return {"optimize": False}
    # As in `media.png`, for moving ones.
    return {"compress_type": zlib.Z_RLE}


def _times(picture: Picture, form: Format) -> dict[str, Any]:
    if form.suffix == "tiff":
        return {}
    durations = list(picture.durations)
    if form.suffix == "gif":
        loop = {} if picture.loop is None else {"loop": picture.loop}
        return {"duration": durations, "disposal": 2 if picture.clear else 1} | loop
    if form.suffix == "avif":
        return {"duration": durations}
    loop = {"loop": 1 if picture.loop is None else picture.loop}
    if form.suffix == "webp":
        return {"duration": durations} | loop
    return {
        "duration": durations[1:] if picture.cover else durations,
        "default_image": picture.cover,
        "blend": 0,  # each frame replaces what was there
        "disposal": 0,
    } | loop


def _image(frame: Pixels, grey: bool, form: Format) -> Image.Image:
    """A frame as Pillow has it, with no more channels than it needs."""
    if (frame[..., 3] < 255).any():
        if form.suffix != "jpg":
            return Image.fromarray(np.ascontiguousarray(frame[..., 2:]) if grey else frame)
        alpha = frame[..., 3:].astype(np.float32) / 255
        frame = np.rint(frame[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    image = Image.fromarray(frame)
    return image.getchannel(0) if grey else image.convert("RGB")  # quicker than a slice in numpy


def _indexed(frame: Pixels) -> Image.Image:
    """A frame with a palette: exact where its colours are few enough, else dithered."""
    clear = frame[..., 3] < 128  # (H, W); the format knows no half
    height, width = clear.shape
    packed = frame[..., :3].astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, indices = np.unique(packed[~clear], return_inverse=True)
    if colours.size <= (255 if clear.any() else 256):
        values = np.full((height, width), colours.size % 256, np.uint8)
        values[~clear] = indices
        table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1)
        palette = table.astype(np.uint8).tobytes()
        number = int(colours.size)
    else:
        opaque = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
        few = opaque.quantize(255, Image.Quantize.MEDIANCUT)
        few = opaque.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG)
        values = np.where(clear, np.uint8(255), np.asarray(few))
        palette, number = bytes(few.getpalette() or b"")[: 3 * 255].ljust(3 * 255, b"\0"), 255
    image = Image.fromarray(values, "P")
    image.putpalette(palette if number == 256 else palette + b"\0\0\0")
    if clear.any():
        image.info["transparency"] = number
    return image
